/* SPDX-License-Identifier: Apache-2.0 */
#include "input/json_check.h"
#include "input/trace_lines.h"

static cli_exit read_field(const cJSON *object, const char *field, int32_t low, const trace_place *place,
                           int32_t *tokens, cli_error *error) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, field);
    if (!cJSON_IsNumber(value)) {
        return cli_fail(error, "%.200s:%d: %s is %s", place->name, place->line, field,
                        value == NULL ? "missing" : "not a number");
    }
    if (json_is_repeated(value))
        return cli_fail(error, "%.200s:%d: %s is given twice", place->name, place->line, field);
    return trace_read_tokens(value->valuedouble, field, low, place, tokens, error);
}

cli_exit jsonl_read_line(text_span line, const trace_place *place, trace_request *request, cli_error *error) {
    size_t size = (size_t)(line.end - line.begin), offset;
    const char *fault = json_find_fault(line.begin, size, &offset);
    if (fault != NULL) return cli_fail(error, "%.200s:%d: not JSON: %s", place->name, place->line, fault);
    cJSON *object = cJSON_ParseWithLength(line.begin, size);
    cli_exit code = CLI_OK;
    if (!cJSON_IsObject(object)) {
        code = cli_fail(error, "%.200s:%d: the line is not a JSON object", place->name, place->line);
    }
    if (code == CLI_OK) code = read_field(object, "input_length", 1, place, &request->prefill_tokens, error);
    if (code == CLI_OK) code = read_field(object, "output_length", 0, place, &request->decode_tokens, error);
    cJSON_Delete(object);
    return code;
}
