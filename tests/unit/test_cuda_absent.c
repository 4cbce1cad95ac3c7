/* SPDX-License-Identifier: Apache-2.0 */
/* What a library without the GPU backend says of a GPU, also in a build that has it. */
#define pod__cuda_open absent_open
#include "cuda/cuda_absent.c" /* not in every library. NOLINT(bugprone-suspicious-include) */
#undef pod__cuda_open

#include "unit.h"

/** Both reasons, since the library does not know which it was. */
static void it_names_how_it_was_configured(void **state) {
    (void)state;
    static const char *const ordinals[] = {"0", "0,kernel=sm90", ""};
    for (int i = 0; i < 3; i++) {
        pod_device *device = (pod_device *)&state; /* anything but NULL */
        assert_fails(absent_open(ordinals[i], &device), POD_E_NO_DEVICE,
                     "this build has no GPU backend: it was configured with PODATTN_CUDA=OFF or without nvcc");
        assert_null(device);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_names_how_it_was_configured)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
