/* SPDX-License-Identifier: Apache-2.0 */
#include "input/json_check.h"

#include <ctype.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

/** Functions of a scanner return 0 where the text is wrong, with the cursor there. */
typedef struct scanner {
    const char *cursor, *end;
    const char *fault;
} scanner;

static int fail(scanner *s, const char *fault) {
    if (s->fault == NULL) s->fault = s->cursor == s->end ? "the text ends too early" : fault;
    return 0;
}

static void skip_blanks(scanner *s) {
    while (s->cursor < s->end && *s->cursor != '\0' && strchr(" \t\r\n", *s->cursor) != NULL) s->cursor++;
}

/** The next character, if it is this one. */
static int take(scanner *s, char c) {
    if (s->cursor == s->end || *s->cursor != c) return 0;
    s->cursor++;
    return 1;
}

static int scan_digits(scanner *s) {
    const char *begin = s->cursor;
    while (s->cursor < s->end && isdigit((unsigned char)*s->cursor)) s->cursor++;
    return s->cursor > begin || fail(s, "a digit is missing");
}

static int scan_number(scanner *s) {
    take(s, '-');
    if (!take(s, '0') && !scan_digits(s)) return 0;
    if (s->cursor < s->end && isdigit((unsigned char)*s->cursor)) return fail(s, "a number begins with 0");
    if (take(s, '.') && !scan_digits(s)) return 0;
    if (!take(s, 'e') && !take(s, 'E')) return 1;
    if (!take(s, '+')) take(s, '-');
    return scan_digits(s);
}

static int scan_escape(scanner *s) {
    if (s->cursor < s->end && *s->cursor != '\0' && strchr("\"\\/bfnrt", *s->cursor) != NULL)
        return take(s, *s->cursor);
    if (!take(s, 'u')) return fail(s, "an unknown escape");
    const char *digits = s->cursor;
    for (int i = 0; i < 4; i++, s->cursor++) {
        if (s->cursor == s->end || !isxdigit((unsigned char)*s->cursor))
            return fail(s, "\\u needs 4 hexadecimal digits");
    }
    return memcmp(digits, "0000", 4) != 0 || fail(s, "a zero character in a string");
}

static int scan_string(scanner *s) {
    if (!take(s, '"')) return fail(s, "the name of a field is missing");
    while (!take(s, '"')) {
        if (take(s, '\\')) {
            if (!scan_escape(s)) return 0;
        } else if (s->cursor == s->end || (unsigned char)*s->cursor < ' ') {
            return fail(s, "a control character in a string");
        } else {
            s->cursor++;
        }
    }
    return 1;
}

static int scan_word(scanner *s) {
    static const char *const words[] = {"true", "false", "null"};
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(s->end - s->cursor) < length || memcmp(s->cursor, words[i], length) != 0) continue;
        s->cursor += length;
        return 1;
    }
    return fail(s, "neither a value nor its end");
}

/** The name of an object's field, and its colon. */
static int scan_name(scanner *s) {
    skip_blanks(s);
    if (!scan_string(s)) return 0;
    skip_blanks(s);
    return take(s, ':') || fail(s, "a colon is missing");
}

static int scan_scalar(scanner *s) {
    if (s->cursor < s->end && *s->cursor == '"') return scan_string(s);
    if (s->cursor < s->end && (*s->cursor == '-' || isdigit((unsigned char)*s->cursor))) return scan_number(s);
    return scan_word(s);
}

/** Closes what ends here; then there is a comma, with the next name in an object, or nothing is open. */
static int scan_ends(scanner *s, const char *closers, int *depth) {
    for (skip_blanks(s); *depth > 0; skip_blanks(s)) {
        if (take(s, ',')) return closers[*depth - 1] == ']' || scan_name(s);
        if (!take(s, closers[*depth - 1])) return fail(s, "a comma or a closing bracket is missing");
        --*depth;
    }
    return 1;
}

/** One value with all that is in it. */
static int scan_value(scanner *s) {
    char closers[MAX_DEPTH];
    int depth = 0;
    do {
        skip_blanks(s);
        int closer = take(s, '{') ? '}' : take(s, '[') ? ']' : '\0';
        if (closer == '\0') {
            /* cppcheck-suppress uninitvar ; of closers only what is open is read */
            if (!scan_scalar(s) || !scan_ends(s, closers, &depth)) return 0;
            continue;
        }
        if (depth == MAX_DEPTH) return fail(s, "more brackets inside one another than 64");
        closers[depth++] = (char)closer;
        skip_blanks(s);
        if (s->cursor < s->end && *s->cursor == closer) {
            if (!scan_ends(s, closers, &depth)) return 0;
        } else if (closer == '}' && !scan_name(s)) {
            return 0;
        }
    } while (depth > 0);
    return 1;
}

const char *json_find_fault(const char *data, size_t size, size_t *offset) {
    scanner s = {data, data + size, NULL};
    if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) s.cursor += 3; /* a byte order mark */
    if (scan_value(&s)) {
        skip_blanks(&s);
        if (s.cursor < s.end) s.fault = "there is text after the document";
    }
    *offset = (size_t)(s.cursor - data);
    return s.fault;
}

int json_is_repeated(const cJSON *field) {
    for (const cJSON *later = field->next; later != NULL; later = later->next) {
        if (strcmp(later->string, field->string) == 0) return 1;
    }
    return 0;
}
