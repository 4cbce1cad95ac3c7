/* SPDX-License-Identifier: Apache-2.0 */
#include "families/gpu_options.h"

#include "base/status.h"

#include <stdio.h>

#ifdef POD_BASELINES
enum { HAS_BASELINES = 1 };
#else
enum { HAS_BASELINES = 0 };
#endif

/** Every option and value but those of kernel=, and the field it sets. */
static const struct {
    const char *text;
    size_t field;
    int32_t value;
    int32_t is_baseline;
} choices[] = {
#define CHOICE(text, field, value, is_baseline)                                                                        \
    { text, offsetof(pod_gpu_options, field), value, is_baseline }
    CHOICE("fusion=sm", job, POD_JOB_fused, 0),
    CHOICE("fusion=hfuse", job, POD_JOB_hfuse, 1),
    CHOICE("policy=proportional", policy, POD_POLICY_PROPORTIONAL, 0),
    CHOICE("policy=half", policy, POD_POLICY_HALF, 1),
    CHOICE("ctas=auto", ctas_per_sm, 0, 0),
    CHOICE("ctas=2", ctas_per_sm, 2, 0),
    CHOICE("ctas=4", ctas_per_sm, 4, 0),
#undef CHOICE
};

static int is_text(const char *text, size_t length, const char *other) {
    return strlen(other) == length && memcmp(text, other, length) == 0;
}

/** "kernel=auto" or "kernel=" and a family's name; 0 if it is neither. */
static int parse_kernel(const char *text, size_t length, pod_gpu_options *options) {
    static const char key[] = "kernel=";
    size_t key_length = sizeof key - 1;
    if (length < key_length || memcmp(text, key, key_length) != 0) return 0;
    text += key_length, length -= key_length;
    options->family = NULL;
    if (is_text(text, length, "auto")) return 1;
    for (int32_t i = 0; i < POD_NUM_GPU_FAMILIES; i++) {
        if (is_text(text, length, pod__gpu_families[i]->name)) options->family = pod__gpu_families[i];
    }
    return options->family != NULL;
}

/** "|sm80|sm90", the fastest last. */
static void list_families(char *text, size_t bytes) {
    size_t length = 0;
    *text = '\0';
    for (int32_t i = POD_NUM_GPU_FAMILIES - 1; i >= 0 && length < bytes; i--) {
        length += (size_t)snprintf(text + length, bytes - length, "|%s", pod__gpu_families[i]->name);
    }
}

static pod_status parse_option(const char *text, size_t length, pod_gpu_options *options) {
    if (parse_kernel(text, length, options)) return POD_OK;
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (!is_text(text, length, choices[i].text)) continue;
        if (choices[i].is_baseline && !HAS_BASELINES) {
            return pod__fail(POD_E_ARGUMENT, "%s: this build has no baselines: configure with -DPODATTN_BASELINES=ON",
                             choices[i].text);
        }
        memcpy((char *)options + choices[i].field, &choices[i].value, sizeof choices[i].value);
        return POD_OK;
    }
    char families[64];
    list_families(families, sizeof families);
    return pod__fail(POD_E_ARGUMENT,
                     "\"%.*s\" is no option of a cuda device; known are fusion=sm|hfuse, policy=proportional|half, "
                     "ctas=auto|2|4, kernel=auto%s",
                     length < 64 ? (int)length : 64, text, families);
}

/** Whether an earlier option of `all` has the key of the one at `text`: nobody could tell which of the two counts. */
static int is_repeated(const char *all, const char *text) {
    size_t key_length = strcspn(text, "=") + 1;
    for (const char *other = all + 1; other < text; other += strcspn(other, ",") + 1) {
        if (strncmp(other, text, key_length) == 0) return 1;
    }
    return 0;
}

pod_status pod__gpu_options_parse(const char *text, pod_gpu_options *options) {
    const char *all = text;
    *options = (pod_gpu_options){.policy = POD_POLICY_ANY};
    while (*text == ',') {
        size_t length = strcspn(++text, ",");
        POD_TRY(parse_option(text, length, options));
        if (is_repeated(all, text)) {
            return pod__fail(POD_E_ARGUMENT, "\"%.*s\" is a second option for the same choice", (int)length, text);
        }
        text += length;
    }
    return POD_OK;
}
