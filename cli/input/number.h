/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers from text: all of it or nothing, within bounds, and an error that names whose number it was. */
#ifndef CLI_NUMBER_H
#define CLI_NUMBER_H

#include "cli_error.h"

#include <stdint.h>

/** What option numbers without another bound may reach. Beyond it a JSON reader may take a number for its neighbour. */
#define NUMBER_MAX (((int64_t)1 << 53) - 1)

/** Reads a decimal number at `*cursor` and moves it past the last digit. Returns 0 where there is no digit. A number
 * that does not fit is clamped to INT64_MIN or INT64_MAX, which every bound of this program rejects. */
int number_scan(const char **cursor, int64_t *value);

/** The whole of `text` as a number in [low, high]. */
cli_exit number_parse(const char *name, const char *text, int64_t low, int64_t high, int64_t *value, cli_error *error);

/** The whole of `text` as a finite float. */
cli_exit number_parse_float(const char *name, const char *text, float *value, cli_error *error);

/** A number that already is one, as in JSON: whole and in [low, high]. */
cli_exit number_check(const char *name, double number, int64_t low, int64_t high, int64_t *value, cli_error *error);

#endif
