/* SPDX-License-Identifier: Apache-2.0 */
/* The processor's ceilings: all threads multiply, and all threads read, for about half a second each. */
#include "base/status.h"
#include "cpu/cpu_kernels.h"

#include <omp.h>
#include <stdlib.h>

enum { DATA_ALIGN = 64, ROUNDS = 1 << 20 };
#define DATA_BYTES ((size_t)1 << 30) /* more than any cache */
#define SECONDS 0.5

static double multiply_all(const cpu_kernels *kernels, int32_t num_threads) {
    double flop = 0, begin_s = omp_get_wtime();
#pragma omp parallel num_threads(num_threads) reduction(+ : flop)
    {
        float result = 1; /* and remains so: x = 0.75 x + 0.25 */
        while (result > 0 && omp_get_wtime() - begin_s < SECONDS) flop += kernels->peak_multiply(ROUNDS, &result);
    }
    return flop / (omp_get_wtime() - begin_s) * 1e-12;
}

/** The floats [*begin, *end) of one thread. */
static void thread_part(int64_t count, int64_t *begin, int64_t *end) {
    *begin = count * omp_get_thread_num() / omp_get_num_threads();
    *end = count * (omp_get_thread_num() + 1) / omp_get_num_threads();
}

/** Each thread touches its part first, which places it in memory near to it. */
static void fill_all(float *data, int64_t count, int32_t num_threads) {
#pragma omp parallel num_threads(num_threads)
    {
        int64_t begin, end;
        thread_part(count, &begin, &end);
        for (int64_t i = begin; i < end; i++) data[i] = (float)(i % 1021);
    }
}

static double read_all(const cpu_kernels *kernels, const float *data, int64_t count, int32_t num_threads) {
    double bytes = 0, begin_s = omp_get_wtime();
#pragma omp parallel num_threads(num_threads) reduction(+ : bytes)
    {
        int64_t begin, end;
        thread_part(count, &begin, &end);
        float largest = 0;
        while (largest >= 0 && omp_get_wtime() - begin_s < SECONDS) {
            largest = kernels->peak_read(data + begin, end - begin);
            bytes += (double)(end - begin) * sizeof *data;
        }
    }
    return bytes / (omp_get_wtime() - begin_s) * 1e-9;
}

pod_status pod__cpu_measure_peak(const cpu_kernels *kernels, int32_t num_threads, pod_device_peak *peak) {
    int64_t count = (int64_t)(DATA_BYTES / sizeof(float));
    float *data = aligned_alloc(DATA_ALIGN, DATA_BYTES);
    if (data == NULL) return pod__fail(POD_E_NO_MEMORY, "no memory for %zu bytes to read", DATA_BYTES);
    fill_all(data, count, num_threads);
    peak->read.gb_per_s = read_all(kernels, data, count, num_threads);
    free(data);
    peak->math.tflops = multiply_all(kernels, num_threads);
    return POD_OK;
}
