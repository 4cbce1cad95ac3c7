/* SPDX-License-Identifier: Apache-2.0 */
#include "emulated_kernels.h"

#include "cuda/kernels/params.h"
#include "emulated_kernel.hpp"
#include "machine.hpp"

#include <cstring>

extern "C" int pod_emulate(const char *name, unsigned grid, const pod_kernel_params *params) {
    for (const std::vector<emulated_kernel> *family : {&emulated_sm80, &emulated_sm90, &emulated_sm90mla}) {
        for (const emulated_kernel &kernel : *family) {
            if (strcmp(kernel.name, name) != 0) continue;
            emulator::run(grid, kernel.cluster_ctas, kernel.threads, [&] { kernel.function(*params); });
            return 1;
        }
    }
    emulator::fail("there is no kernel %s", name);
}
