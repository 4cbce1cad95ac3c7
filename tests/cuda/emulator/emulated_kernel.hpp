/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels that the emulator runs: one table for each family, made from variants.def. */
#ifndef POD_EMULATED_KERNEL_HPP
#define POD_EMULATED_KERNEL_HPP

#include <vector>

struct pod_kernel_params;

struct emulated_kernel {
    const char *name;
    unsigned cluster_ctas, threads;
    void (*function)(const pod_kernel_params params);
};

extern const std::vector<emulated_kernel> emulated_sm80, emulated_sm90, emulated_sm90mla;

#endif
