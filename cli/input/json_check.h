/* SPDX-License-Identifier: Apache-2.0 */
/* Whether text is JSON, by the letter of RFC 8259. cJSON reads the values; by itself it also takes text behind the
 * document, leading zeros, zero bytes as blanks, and of a name what stands before a zero. */
#ifndef CLI_JSON_CHECK_H
#define CLI_JSON_CHECK_H

#include <cJSON.h>
#include <stddef.h>

/** What is wrong with a document, and at which byte; NULL if nothing is. */
const char *json_find_fault(const char *data, size_t size, size_t *offset);

/** Whether a later field of the object has the same name. */
int json_is_repeated(const cJSON *field);

#endif
