/* SPDX-License-Identifier: Apache-2.0 */
/* A batch from a JSON file. docs/json.md describes the document. */
#ifndef CLI_BATCH_JSON_H
#define CLI_BATCH_JSON_H

#include "input/batch_spec.h"
#include "input/file.h"

/** Reads a document into a batch_spec: fields that are there replace the spec's, requests are added. On error the spec
 * may hold a part of it. */
file_parser batch_json_parse;

#endif
