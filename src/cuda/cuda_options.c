/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/cuda_options.h"

#include "base/status.h"
#include "cuda/kernels/params.h"

enum { MAX_ORDINAL = 9999 };

/** Every option and value, and the field it sets. */
static const struct {
    const char *text;
    size_t field;
    int32_t value;
} choices[] = {
#define CHOICE(text, field, value)                                                                                     \
    { text, offsetof(pod_cuda_options, field), value }
    CHOICE("fusion=sm", fusion, POD_JOB_fused),
    CHOICE("fusion=hfuse", fusion, POD_JOB_hfuse),
    CHOICE("policy=proportional", policy, POD_POLICY_PROPORTIONAL),
    CHOICE("policy=half", policy, POD_POLICY_HALF),
    CHOICE("ctas=auto", ctas_per_sm, 0),
    CHOICE("ctas=2", ctas_per_sm, 2),
    CHOICE("ctas=4", ctas_per_sm, 4),
    CHOICE("kernel=auto", arch, POD_ARCH_ANY),
    CHOICE("kernel=sm80", arch, POD_ARCH_sm80),
    CHOICE("kernel=sm90", arch, POD_ARCH_sm90),
#undef CHOICE
};

static pod_status parse_choice(const char *text, size_t length, pod_cuda_options *options) {
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (strlen(choices[i].text) != length || memcmp(choices[i].text, text, length) != 0) continue;
        memcpy((char *)options + choices[i].field, &choices[i].value, sizeof choices[i].value);
        return POD_OK;
    }
    return pod__fail(POD_E_ARGUMENT,
                     "\"%.*s\" is no option of a cuda device; known are fusion=sm|hfuse, policy=proportional|half, "
                     "ctas=auto|2|4, kernel=auto|sm80|sm90",
                     length < 64 ? (int)length : 64, text);
}

static pod_status parse_ordinal(const char *text, size_t length, pod_cuda_options *options) {
    if (length == 0) return POD_OK; /* "cuda" is "cuda:0" */
    int32_t ordinal = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9' || ordinal > MAX_ORDINAL) {
            return pod__fail(POD_E_ARGUMENT, "\"%.*s\" is no number of a GPU; write cuda:0 for the first",
                             length < 64 ? (int)length : 64, text);
        }
        ordinal = ordinal * 10 + (text[i] - '0');
    }
    options->ordinal = ordinal;
    return POD_OK;
}

pod_status pod__cuda_options_parse(const char *argument, pod_cuda_options *options) {
    memset(options, 0, sizeof *options);
    options->policy = POD_POLICY_ANY;
    size_t length = strcspn(argument, ",");
    POD_TRY(parse_ordinal(argument, length, options));
    while (argument[length] == ',') {
        argument += length + 1;
        length = strcspn(argument, ",");
        POD_TRY(parse_choice(argument, length, options));
    }
    return POD_OK;
}
