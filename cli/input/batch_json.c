/* SPDX-License-Identifier: Apache-2.0 */
#include "input/batch_json.h"

#include "input/json_check.h"
#include "input/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/** Where an error is: "batch.json: requests[3].q_len". */
typedef struct json_place {
    char text[480];
} json_place;

static json_place place_of(const char *name, const char *field) {
    json_place place;
    snprintf(place.text, sizeof place.text, "%.300s: %.160s", name, field);
    return place;
}

static cli_exit read_int(const json_place *place, const cJSON *value, int64_t low, int64_t high, int64_t *number,
                         cli_error *error) {
    if (!cJSON_IsNumber(value)) return cli_fail(error, "%s is not a number", place->text);
    return number_check(place->text, value->valuedouble, low, high, number, error);
}

static cli_exit read_int32(const json_place *place, const cJSON *value, int32_t low, int32_t high, int32_t *field,
                           cli_error *error) {
    int64_t number = 0;
    CLI_TRY(read_int(place, value, low, high, &number, error));
    *field = (int32_t)number;
    return CLI_OK;
}

static cli_exit read_float(const json_place *place, const cJSON *value, float *field, cli_error *error) {
    if (!cJSON_IsNumber(value)) return cli_fail(error, "%s is not a number", place->text);
    *field = (float)value->valuedouble;
    if (!isfinite(*field)) return cli_fail(error, "%s = %g is not a finite float", place->text, value->valuedouble);
    if (*field == 0 && value->valuedouble != 0) {
        return cli_fail(error, "%s = %g is too close to 0 for a float", place->text, value->valuedouble);
    }
    return CLI_OK;
}

static cli_exit read_switch(const json_place *place, const cJSON *value, int32_t *field, cli_error *error) {
    if (!cJSON_IsBool(value)) return cli_fail(error, "%s is neither true nor false", place->text);
    *field = cJSON_IsTrue(value);
    return CLI_OK;
}

/** {"q_len": 1, "kv_len": 4096, "count": 64}; count may be left out. */
static cli_exit read_request(const char *name, int index, const cJSON *object, batch_spec *spec, cli_error *error) {
    char where[64];
    snprintf(where, sizeof where, "requests[%d]", index);
    json_place place = place_of(name, where);
    if (!cJSON_IsObject(object)) return cli_fail(error, "%s is not an object", place.text);
    int64_t q_len = -1, kv_len = -1, count = 1;
    for (const cJSON *value = object->child; value != NULL; value = value->next) {
        char field[128];
        snprintf(field, sizeof field, "%.40s.%.64s", where, value->string);
        json_place at = place_of(name, field);
        if (json_is_repeated(value)) return cli_fail(error, "%s is given twice", at.text);
        if (strcmp(value->string, "q_len") == 0) {
            CLI_TRY(read_int(&at, value, 0, BATCH_MAX_TOKENS, &q_len, error));
        } else if (strcmp(value->string, "kv_len") == 0) {
            CLI_TRY(read_int(&at, value, 0, BATCH_MAX_TOKENS, &kv_len, error));
        } else if (strcmp(value->string, "count") == 0) {
            CLI_TRY(read_int(&at, value, 1, BATCH_MAX_REQUESTS, &count, error));
        } else {
            return cli_fail(error, "%s is unknown", at.text);
        }
    }
    if (q_len < 0) return cli_fail(error, "%s has no q_len", place.text);
    if (kv_len < 0) return cli_fail(error, "%s has no kv_len", place.text);
    return batch_spec_add(spec, place.text, count, q_len, kv_len, error);
}

static cli_exit read_requests(const char *name, const cJSON *array, batch_spec *spec, cli_error *error) {
    if (!cJSON_IsArray(array)) return cli_fail(error, "%.300s: requests is not an array", name);
    int index = 0;
    for (const cJSON *object = array->child; object != NULL; object = object->next) {
        CLI_TRY(read_request(name, index++, object, spec, error));
    }
    return CLI_OK;
}

static cli_exit read_text_field(const char *name, const cJSON *value, batch_spec *spec, cli_error *error) {
    json_place place = place_of(name, value->string);
    if (!cJSON_IsString(value)) return cli_fail(error, "%s is not a string", place.text);
    if (strcmp(value->string, "dtype") == 0) {
        return batch_spec_set_dtype(spec, place.text, value->valuestring, error);
    }
    if (strcmp(value->string, "kv_dtype") == 0) {
        return batch_spec_set_kv_dtype(spec, place.text, value->valuestring, error);
    }
    return batch_spec_set_model(spec, place.text, value->valuestring, error);
}

static int is_text_field(const char *field) {
    return strcmp(field, "model") == 0 || strcmp(field, "dtype") == 0 || strcmp(field, "kv_dtype") == 0;
}

static cli_exit read_field(const char *name, const cJSON *value, batch_spec *spec, cli_error *error) {
    const char *field = value->string;
    json_place at = place_of(name, field);
    if (strcmp(field, "requests") == 0) return read_requests(name, value, spec, error);
    if (is_text_field(field)) return read_text_field(name, value, spec, error);
    if (strcmp(field, "causal") == 0) return read_switch(&at, value, &spec->causal, error);
    if (strcmp(field, "v_in_k") == 0) return read_switch(&at, value, &spec->values_in_keys, error);
    if (strcmp(field, "sinks") == 0) return read_switch(&at, value, &spec->has_sinks, error);
    if (strcmp(field, "alibi") == 0) return read_switch(&at, value, &spec->has_alibi, error);
    if (strcmp(field, "scale") == 0) return read_float(&at, value, &spec->scale, error);
    if (strcmp(field, "softcap") == 0) {
        CLI_TRY(read_float(&at, value, &spec->softcap, error));
        return spec->softcap < 0 ? cli_fail(error, "%s is negative", at.text) : CLI_OK;
    }
    /* Page size and window: 0 means none. The bounds of the others, which the library knows, come later. */
    if (strcmp(field, "page_size") == 0) return read_int32(&at, value, 0, BATCH_MAX_TOKENS, &spec->page_size, error);
    if (strcmp(field, "window") == 0) return read_int32(&at, value, 0, BATCH_MAX_TOKENS, &spec->window_tokens, error);
    if (strcmp(field, "right_window") == 0) {
        return read_int32(&at, value, 0, BATCH_MAX_TOKENS, &spec->right_window_tokens, error);
    }
    if (strcmp(field, "tree") == 0) {
        return read_int32(&at, value, 0, POD_MAX_TREE_TOKENS, &spec->tree_children, error);
    }
    if (strcmp(field, "seed") == 0) return read_int(&at, value, 0, NUMBER_MAX, &spec->seed, error);
    if (strcmp(field, "head_dim") == 0 || strcmp(field, "v_head_dim") == 0) {
        int64_t head_dim = 0;
        CLI_TRY(read_int(&at, value, 8, BATCH_MAX_HEAD_DIM, &head_dim, error));
        return *field == 'v' ? batch_spec_set_v_head_dim(spec, at.text, head_dim, error)
                             : batch_spec_set_head_dim(spec, at.text, head_dim, error);
    }
    int32_t *heads = strcmp(field, "q_heads") == 0    ? &spec->q_heads
                     : strcmp(field, "kv_heads") == 0 ? &spec->kv_heads
                                                      : NULL;
    if (heads == NULL) return cli_fail(error, "%s is unknown", at.text);
    spec->model[0] = '\0';
    return read_int32(&at, value, 1, BATCH_MAX_HEADS, heads, error);
}

/** The line that byte `offset` is in, from 1 up. */
static int line_of(const char *data, size_t offset) {
    int line = 1;
    for (size_t i = 0; i < offset; i++) line += data[i] == '\n';
    return line;
}

static cli_exit read_root(const char *name, const cJSON *root, batch_spec *spec, cli_error *error) {
    if (!cJSON_IsObject(root)) return cli_fail(error, "%.300s: not a JSON object", name);
    for (const cJSON *value = root->child; value != NULL; value = value->next) {
        if (json_is_repeated(value)) return cli_fail(error, "%.300s: %.160s is given twice", name, value->string);
        CLI_TRY(read_field(name, value, spec, error));
    }
    if (spec->model[0] != '\0') return CLI_OK;
    return batch_spec_set_heads(spec, name, spec->q_heads, spec->kv_heads, error); /* which fit only together */
}

cli_exit batch_json_parse(const char *data, size_t size, const char *name, void *target, cli_error *error) {
    size_t offset;
    const char *fault = json_find_fault(data, size, &offset);
    if (fault != NULL) return cli_fail(error, "%.300s:%d: not JSON: %s", name, line_of(data, offset), fault);
    cJSON *root = cJSON_ParseWithLength(data, size);
    if (root == NULL) return cli_fail(error, "%.300s: not JSON", name);
    cli_exit code = read_root(name, root, target, error);
    cJSON_Delete(root);
    return code;
}
