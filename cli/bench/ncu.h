/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel's counters, read by Nsight Compute from this program started once more. */
#ifndef CLI_NCU_H
#define CLI_NCU_H

#include "cli_error.h"

/** Percent of what the chip can do while the kernel runs. */
typedef struct ncu_counters {
    double sm_percent;     /**< the busiest part of the SMs */
    double tensor_percent; /**< the tensor cores; NaN where the chip has no such counter */
    double dram_percent;
} ncu_counters;

/** Whether there is an ncu on the PATH. */
int ncu_is_there(void);

/** Of the attention kernels in `podattn bench SUITE --device DEVICE --launch LAUNCH`, whose rounds have `num_kernels`
 * of one launch each: `counters[num_kernels]`, from one round after two that load the code. */
cli_exit ncu_count(const char *suite, const char *device, const char *launch, int num_kernels, ncu_counters *counters,
                   cli_error *error);

#endif
