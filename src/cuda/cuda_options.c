/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/cuda_options.h"

#include "base/status.h"

enum { MAX_ORDINAL = 9999 };

static pod_status parse_ordinal(const char *text, size_t length, int32_t *ordinal) {
    *ordinal = 0; /* "cuda" is "cuda:0" */
    if (length == 0 && *text != '\0') {
        return pod__fail(POD_E_ARGUMENT, "\"%.64s\" does not begin with the number of a GPU; write cuda:0%.64s", text,
                         text);
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || *ordinal > MAX_ORDINAL) {
            return pod__fail(POD_E_ARGUMENT, "\"%.*s\" is no number of a GPU; write cuda:0 for the first",
                             length < 64 ? (int)length : 64, text);
        }
        *ordinal = *ordinal * 10 + (text[i] - '0');
    }
    return POD_OK;
}

pod_status pod__cuda_options_parse(const char *argument, int32_t *ordinal, pod_gpu_options *options) {
    size_t length = strcspn(argument, ",");
    POD_TRY(parse_ordinal(argument, length, ordinal));
    return pod__gpu_options_parse(argument + length, options);
}
