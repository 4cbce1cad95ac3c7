/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels on the emulator, for the fake driver. */
#ifndef POD_EMULATED_KERNELS_H
#define POD_EMULATED_KERNELS_H

#ifdef __cplusplus
extern "C" {
#endif

struct pod_kernel_params;
struct pod_append_params;
struct pod_merge_params;

/** Runs an attention kernel by its name. Returns 0 where there is no emulator. */
int pod_emulate(const char *name, unsigned grid, const struct pod_kernel_params *params);
/** The same for the kernels that append and merge. */
int pod_emulate_append(unsigned grid, const struct pod_append_params *params);
int pod_emulate_merge(unsigned grid, const struct pod_merge_params *params);

#ifdef __cplusplus
}
#endif

#endif
