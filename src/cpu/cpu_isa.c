/* SPDX-License-Identifier: Apache-2.0 */
/* Which kernels the processor at hand can run. */
#include "base/status.h"
#include "cpu/cpu_kernels.h"

#ifdef __x86_64__

static int has_avx2(void) { /* every processor with AVX2 and FMA converts f16 too */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static int has_avx512_bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

#endif

static int has_any(void) {
    return 1;
}

/** Those of the most special instructions first. */
static const struct {
    const cpu_kernels *kernels;
    int (*is_present)(void);
} sets[] = {
#ifdef __x86_64__
    {&pod__cpu_kernels_avx512_bf16, has_avx512_bf16},
    {&pod__cpu_kernels_avx512, has_avx512},
    {&pod__cpu_kernels_avx2, has_avx2},
#endif
    {&pod__cpu_kernels_generic, has_any},
};
enum { NUM_SETS = sizeof sets / sizeof sets[0] };
_Static_assert((int)NUM_SETS <= (int)CPU_MAX_SETS, "one time each");

int pod__cpu_kernels_at(int32_t index, const cpu_kernels **kernels) {
    if (index >= NUM_SETS) return 0;
    *kernels = sets[index].is_present() ? sets[index].kernels : NULL;
    return 1;
}

pod_status pod__cpu_kernels_find(const char *name, const cpu_kernels **kernels) {
    if (*name == '\0') {
        *kernels = pod__cpu_fastest_kernels();
        return POD_OK;
    }
    for (int32_t i = 0; i < NUM_SETS; i++) {
        if (strcmp(sets[i].kernels->name, name) != 0) continue;
        if (!sets[i].is_present()) {
            return pod__fail(POD_E_NO_DEVICE, "isa=%s: this processor does not have it", name);
        }
        *kernels = sets[i].kernels;
        return POD_OK;
    }
    return pod__fail(POD_E_ARGUMENT, "isa=%.32s is none of avx512-bf16, avx512, avx2, generic", name);
}
