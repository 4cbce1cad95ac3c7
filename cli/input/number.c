/* SPDX-License-Identifier: Apache-2.0 */
#include "input/number.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int number_scan(const char **cursor, int64_t *value) {
    const char *digits = **cursor == '-' ? *cursor + 1 : *cursor;
    if (!isdigit((unsigned char)*digits)) return 0;
    char *end;
    *value = strtoll(*cursor, &end, 10);
    *cursor = end;
    return 1;
}

cli_exit number_parse(const char *name, const char *text, int64_t low, int64_t high, int64_t *value, cli_error *error) {
    const char *cursor = text;
    if (!number_scan(&cursor, value) || *cursor != '\0') {
        return cli_fail(error, "%s \"%.64s\" is not a whole number", name, text);
    }
    if (*value < low || *value > high) {
        return cli_fail(error, "%s %.64s is outside [%" PRId64 ", %" PRId64 "]", name, text, low, high);
    }
    return CLI_OK;
}

cli_exit number_parse_float(const char *name, const char *text, float *value, cli_error *error) {
    char *end;
    errno = 0;
    *value = strtof(text, &end);
    if (end == text || *end != '\0' || isspace((unsigned char)*text)) {
        return cli_fail(error, "%s \"%.64s\" is not a number", name, text);
    }
    if (!isfinite(*value)) return cli_fail(error, "%s %.64s is not a finite number", name, text);
    if (*value == 0 && strpbrk(text, "123456789") != NULL && errno == ERANGE) {
        return cli_fail(error, "%s %.64s is too close to 0 for a float", name, text);
    }
    return CLI_OK;
}

cli_exit number_check(const char *name, double number, int64_t low, int64_t high, int64_t *value, cli_error *error) {
    if (!(number >= (double)low && number <= (double)high)) {
        int is_whole = number == floor(number) && fabs(number) < 1e18; /* then all digits are shown */
        return cli_fail(error,
                        is_whole ? "%s = %.0f is outside [%" PRId64 ", %" PRId64 "]"
                                 : "%s = %.15g is outside [%" PRId64 ", %" PRId64 "]",
                        name, number, low, high);
    }
    if (number != floor(number)) return cli_fail(error, "%s = %.15g is not a whole number", name, number);
    *value = (int64_t)number;
    return CLI_OK;
}
