/* SPDX-License-Identifier: Apache-2.0 */
/* What one thread can do at most: loops that do nothing but multiply and add, or read. */

enum { LIMIT_SUMS = 12 }; /* hide a multiply-add's latency; fit the registers of every instruction set */

static double peak_multiply(int64_t rounds, float *result) {
    vec sums[LIMIT_SUMS], factor = vec_set1(0.75f), addend = vec_set1(0.25f * *result);
    for (int i = 0; i < LIMIT_SUMS; i++) sums[i] = vec_set1((float)i);
    for (int64_t round = 0; round < rounds; round++) {
        CPU_UNROLL
        for (int i = 0; i < LIMIT_SUMS; i++) sums[i] = vec_fma(sums[i], factor, addend);
    }
    for (int i = 1; i < LIMIT_SUMS; i++) sums[0] = vec_max(sums[0], sums[i]);
    *result = vec_reduce_max(sums[0]);
    return 2.0 * LANES * LIMIT_SUMS * (double)rounds;
}

static float peak_read(const float *data, int64_t count) {
    vec sums[LIMIT_SUMS];
    for (int i = 0; i < LIMIT_SUMS; i++) sums[i] = vec_zero();
    for (int64_t at = 0; at + LIMIT_SUMS * LANES <= count; at += LIMIT_SUMS * LANES) {
        CPU_UNROLL
        for (int i = 0; i < LIMIT_SUMS; i++) sums[i] = vec_max(sums[i], vec_load(data + at + i * LANES));
    }
    for (int i = 1; i < LIMIT_SUMS; i++) sums[0] = vec_max(sums[0], sums[i]);
    return vec_reduce_max(sums[0]);
}
