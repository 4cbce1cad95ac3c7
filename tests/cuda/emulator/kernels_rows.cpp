/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels that move rows, compiled from their own source for the emulator: appending and merging. */
#include "ptx.hpp"

#include "cache/append_core.h"
#include "cache/rope_core.h"
#include "cuda/kernels/append/append_params.h"
#include "cuda/kernels/eight.cuh"
#include "cuda/kernels/merge/merge_params.h"
#include "emulated_kernels.h"
#include "schedule/merge_core.h"

namespace append_kernel { /* both kernels have their own names for the same things */
#include "cuda/kernels/append/append_kernel.cu"
}
namespace merge_kernel {
#include "cuda/kernels/merge/merge_kernel.cu"
}

extern "C" int pod_emulate_append(unsigned grid, const pod_append_params *params) {
    emulator::dim3 units = {grid, (unsigned)params->num_units};
    emulator::run(units, 1, POD_APPEND_THREADS, [&] { append_kernel::pod_append_rows(*params); });
    return 1;
}

extern "C" int pod_emulate_merge(unsigned grid, const pod_merge_params *params) {
    emulator::run(grid, 1, POD_MERGE_THREADS, [&] { merge_kernel::pod_merge_rows(*params); });
    return 1;
}
