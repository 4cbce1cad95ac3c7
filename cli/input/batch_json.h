/* SPDX-License-Identifier: Apache-2.0 */
/* A batch from a JSON file. docs/json.md describes the document. */
#ifndef CLI_BATCH_JSON_H
#define CLI_BATCH_JSON_H

#include "input/batch_spec.h"

#include <stddef.h>

/** Reads `size` bytes, which need not be text, into `spec`: fields that are there replace the spec's, requests are
 * added. `name` is what errors call the document. On error `spec` may hold a part of it. */
cli_exit batch_json_parse(const char *data, size_t size, const char *name, batch_spec *spec, cli_error *error);

#endif
