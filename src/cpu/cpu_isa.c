/* SPDX-License-Identifier: Apache-2.0 */
/* Which kernels the processor at hand can run. */
#include "base/status.h"
#include "cpu/cpu_kernels.h"

typedef struct isa_entry {
    const cpu_kernels *kernels;
    int is_present;
} isa_entry;

static pod_status find(const isa_entry *entries, size_t num_entries, const char *name, const cpu_kernels **kernels) {
    for (size_t i = 0; i < num_entries; i++) {
        int is_asked = strcmp(entries[i].kernels->name, name) == 0;
        if (is_asked && !entries[i].is_present) {
            return pod__fail(POD_E_NO_DEVICE, "isa=%s: this processor does not have it", name);
        }
        if (is_asked || (*name == '\0' && entries[i].is_present)) {
            *kernels = entries[i].kernels;
            return POD_OK;
        }
    }
    return pod__fail(POD_E_ARGUMENT, "isa=%.32s is none of avx512-bf16, avx512, avx2, generic", name);
}

#ifdef __x86_64__

pod_status pod__cpu_kernels_find(const char *name, const cpu_kernels **kernels) {
    /* Every processor with AVX2 and FMA converts f16 too. */
    int has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const isa_entry entries[] = {
        {&pod__cpu_kernels_avx512_bf16, has_avx512 && __builtin_cpu_supports("avx512bf16")},
        {&pod__cpu_kernels_avx512, has_avx512},
        {&pod__cpu_kernels_avx2, has_avx2},
        {&pod__cpu_kernels_generic, 1},
    };
    return find(entries, sizeof entries / sizeof entries[0], name, kernels);
}

#else

pod_status pod__cpu_kernels_find(const char *name, const cpu_kernels **kernels) {
    const isa_entry entries[] = {{&pod__cpu_kernels_generic, 1}};
    return find(entries, 1, name, kernels);
}

#endif
