/* SPDX-License-Identifier: Apache-2.0 */
/* cta.cuh and the wrappers of ptx_sm80.cuh and ptx_sm90.cuh for the emulator, in place of those files. */
#ifndef POD_EMULATOR_PTX_HPP
#define POD_EMULATOR_PTX_HPP

#define POD_CUDA_CTA_CUH
#define POD_PTX_SM80_CUH
#define POD_PTX_SM90_CUH
#define POD_PTX_CVT_F8_CUH

#include "cuda_language.hpp"

typedef emulator::thread emulated_thread;

/* ---- what a CTA shares ---- */

#define dynamic_smem (emulator::own_smem())
static inline uint32_t smem_address(const void *pointer) {
    return emulator::smem_address(pointer);
}
/** As the kernel says, all lanes have the same. */
static inline int32_t warp_uniform(int32_t value) {
    const uint32_t(*all)[emulator::SHARED_WORDS] = meet_with((uint32_t)value);
    for (unsigned lane = 0; lane < emulator::WARP_LANES; lane++) {
        if (all[lane][0] != (uint32_t)value) emulator::fail("a value is not uniform: %d", value);
    }
    return value;
}

/* ---- registers and numbers ---- */

static inline uint32_t ptx_tid() {
    return (uint32_t)emulator::self()->tid;
}
/** CTAs spread over a few SMs. */
static inline uint32_t ptx_smid() {
    enum { NUM_SMS = 20 };
    return emulator::block_index().x % NUM_SMS;
}
static inline uint64_t ptx_ld_u64(const uint64_t *from) {
    return *from;
}
static inline float ptx_ex2(float x) {
    return exp2f(x);
}
static inline uint32_t ptx_cvt_bf16x2(float low, float high) {
    return pod__float_to_bf16(low) | (uint32_t)pod__float_to_bf16(high) << 16;
}
static inline uint32_t ptx_cvt_f16x2(float low, float high) {
    return pod__float_to_f16(low) | (uint32_t)pod__float_to_f16(high) << 16;
}

static inline uint32_t cvt_to_f8e4m3x2(float low, float high) {
    return pod__float_to_f8e4m3(low) | (uint32_t)pod__float_to_f8e4m3(high) << 8;
}
static inline float ptx_cvt_from_f16(uint32_t element) {
    return pod__f16_to_float((uint16_t)element);
}
static inline uint32_t ptx_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
    auto value = [](uint32_t pair, int at) { return pod__bf16_to_float((uint16_t)(pair >> at)); };
    return ptx_cvt_bf16x2(value(a, 0) * value(b, 0) + value(c, 0), value(a, 16) * value(b, 16) + value(c, 16));
}
static inline uint32_t ptx_fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
    auto value = [](uint32_t pair, int at) { return pod__f16_to_float((uint16_t)(pair >> at)); };
    return ptx_cvt_f16x2(value(a, 0) * value(b, 0) + value(c, 0), value(a, 16) * value(b, 16) + value(c, 16));
}

/* ---- copies of 16 bytes: as late as the wait allows ---- */

static inline void ptx_cp_async_16_or_zeros(uint32_t to, const void *from, uint32_t bytes) {
    char *place = emulator::smem_pointer(to, 16);
    emulator::self()->open_copies.push_back([=] {
        memset(place, 0, 16);
        memcpy(place, from, bytes);
    });
}
static inline void ptx_cp_async_16(uint32_t to, const void *from) {
    ptx_cp_async_16_or_zeros(to, from, 16);
}
static inline void ptx_cp_async_16_if(bool wanted, uint32_t to, const void *from) {
    if (wanted) ptx_cp_async_16(to, from);
}
static inline void ptx_cp_async_16_or_zeros_if(bool wanted, uint32_t to, const void *from, uint32_t bytes) {
    if (wanted) ptx_cp_async_16_or_zeros(to, from, bytes);
}
static inline void ptx_cp_async_commit() {
    emulated_thread *t = emulator::self();
    t->copies.push_back(t->open_copies);
    t->open_copies.clear();
}
template <int PENDING> static inline void ptx_cp_async_wait() {
    emulated_thread *t = emulator::self();
    while (t->copies.size() > PENDING) {
        for (auto &copy : t->copies.front()) copy();
        t->copies.erase(t->copies.begin());
    }
}
/** Four bytes. */
static inline void ptx_cp_async_4(uint32_t to, const void *from) {
    char *place = emulator::smem_pointer(to, 4);
    emulator::self()->open_copies.push_back([=] { memcpy(place, from, 4); });
}
static inline void ptx_cp_async_16_policy(uint32_t to, const void *from, uint64_t) {
    ptx_cp_async_16(to, from);
}
static inline void ptx_cp_async_16_or_zeros_policy(uint32_t to, const void *from, uint32_t bytes, uint64_t) {
    ptx_cp_async_16_or_zeros(to, from, bytes);
}
static inline const char *ptx_mad_wide(uint32_t a, uint32_t b, const char *base) {
    return base + (uint64_t)a * b;
}
static inline uint64_t ptx_policy_evict_first() {
    return 0;
}
static inline uint64_t ptx_policy_evict_last() {
    return 0;
}
static inline void ptx_stmatrix_x4(uint32_t row_smem, const uint32_t (&r)[4]) {
    const uint32_t(*rows)[emulator::SHARED_WORDS] = meet_with(row_smem);
    unsigned lane = own_lane_index();
    for (unsigned m = 0; m < 4; m++) {
        memcpy(emulator::smem_pointer(rows[m * 8 + lane / 4][0] + lane % 4 * 4, 4), &r[m], 4);
    }
}
static inline uint4 ptx_ld_smem_16(uint32_t from) {
    uint4 v;
    memcpy(&v, emulator::smem_pointer(from, 16), 16);
    return v;
}
static inline void ptx_st_smem_zeros(uint32_t to) {
    memset(emulator::smem_pointer(to, 16), 0, 16);
}

/* ---- matrices of a warp ---- */

static inline uint32_t smem_word(uint32_t address) {
    uint32_t word;
    memcpy(&word, emulator::smem_pointer(address, sizeof word), sizeof word);
    return word;
}
static inline uint16_t smem_half(uint32_t address) {
    uint16_t half;
    memcpy(&half, emulator::smem_pointer(address, sizeof half), sizeof half);
    return half;
}
static inline void ptx_ldmatrix_x4(uint32_t (&r)[4], uint32_t row_smem) {
    const uint32_t(*rows)[emulator::SHARED_WORDS] = meet_with(row_smem);
    unsigned lane = own_lane_index();
    for (unsigned m = 0; m < 4; m++) r[m] = smem_word(rows[m * 8 + lane / 4][0] + lane % 4 * 4);
}
static inline void ptx_ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row_smem) {
    const uint32_t(*rows)[emulator::SHARED_WORDS] = meet_with(row_smem);
    unsigned lane = own_lane_index();
    for (unsigned m = 0; m < 4; m++) {
        unsigned row = m * 8 + lane % 4 * 2;
        r[m] = smem_half(rows[row][0] + lane / 4 * 2) | (uint32_t)smem_half(rows[row + 1][0] + lane / 4 * 2) << 16;
    }
}
static inline uint32_t ptx_movmatrix_trans(uint32_t rows) {
    const uint32_t(*all)[emulator::SHARED_WORDS] = meet_with(rows);
    unsigned lane = own_lane_index(), column = lane / 4, row = lane % 4 * 2;
    auto element = [&](unsigned r) { return all[r * 4 + column / 2][0] >> (16 * (column % 2)) & 0xffff; };
    return element(row) | element(row + 1) << 16;
}

static inline float element_value(bool is_bf16, uint32_t bits) {
    return is_bf16 ? pod__bf16_to_float((uint16_t)bits) : pod__f16_to_float((uint16_t)bits);
}
/** Element `index` (0 or 1) of a register. */
static inline float half_value(bool is_bf16, uint32_t word, unsigned index) {
    return element_value(is_bf16, word >> (16 * index) & 0xffff);
}
static inline void emulate_mma(bool is_bf16, float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    uint32_t own_a[4] = {a[0], a[1], a[2], a[3]}, a_all[32][4], b_all[32][2];
    const uint32_t(*all)[emulator::SHARED_WORDS] = emulator::meet(own_a);
    memcpy(a_all, all, sizeof a_all);
    const uint32_t own_b[4] = {b0, b1};
    all = emulator::meet(own_b);
    for (int lane = 0; lane < 32; lane++) memcpy(b_all[lane], all[lane], sizeof b_all[lane]);
    unsigned lane = own_lane_index();
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            uint32_t a_word = a_all[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
            uint32_t b_word = b_all[column * 4 + k % 8 / 2][k / 8];
            c[i] += half_value(is_bf16, a_word, k % 2) * half_value(is_bf16, b_word, k % 2);
        }
    }
}
static inline void ptx_mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    emulate_mma(true, c, a, b0, b1);
}
static inline void ptx_mma_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    emulate_mma(false, c, a, b0, b1);
}

/* ---- barriers ---- */

static inline void __syncthreads() {
    emulator::named_barrier(0, emulator::cta_threads());
}
static inline int __syncthreads_or(int vote) {
    return emulator::named_barrier(0, emulator::cta_threads(), vote != 0);
}
static inline void ptx_bar_sync(int id, int num_threads) {
    emulator::named_barrier(id, num_threads);
}
static inline void ptx_mbarrier_init(uint32_t barrier, uint32_t arrivals) {
    emulator::mbarrier_init(barrier, arrivals);
}
static inline void ptx_fence_mbarrier_init() {
}
static inline void ptx_mbarrier_arrive(uint32_t barrier) {
    emulator::mbarrier_arrive(emulator::cta_rank(), barrier, 0);
}
static inline void ptx_mbarrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
    emulator::mbarrier_arrive(emulator::cta_rank(), barrier, bytes);
}
static inline void ptx_mbarrier_wait(uint32_t barrier, uint32_t parity) {
    emulator::mbarrier_wait(barrier, parity);
}
static inline void ptx_mbarrier_wait_cluster(uint32_t barrier, uint32_t parity) {
    emulator::mbarrier_wait(barrier, parity);
}

static inline void ptx_cp_async_arrive(uint32_t barrier) {
    emulated_thread *t = emulator::self();
    std::vector<std::function<void()>> begun;
    for (const auto &group : t->copies) begun.insert(begun.end(), group.begin(), group.end());
    begun.insert(begun.end(), t->open_copies.begin(), t->open_copies.end());
    t->copies.clear();
    t->open_copies.clear();
    unsigned cta = emulator::cta_rank();
    emulator::begin_copy([=] {
        for (const auto &copy : begun) copy();
        emulator::mbarrier_arrive(cta, barrier, 0);
    });
}

/* ---- clusters ---- */

static inline uint32_t ptx_cta_rank() {
    return emulator::cta_rank();
}
static inline void ptx_cluster_sync() {
    emulator::cluster_barrier();
}
static inline void ptx_mbarrier_arrive_at(uint32_t barrier, uint32_t cta) {
    emulator::mbarrier_arrive(cta, barrier, 0);
}
static inline void ptx_mbarrier_release_at(uint32_t barrier, uint32_t cta) {
    emulator::mbarrier_arrive(cta, barrier, 0);
}
static inline void ptx_st_smem_at(uint32_t to, uint32_t cta, int32_t value) {
    memcpy(emulator::smem_pointer_of(cta, to, sizeof value), &value, sizeof value);
}

/* ---- the copy engine ---- */

static inline void ptx_tma_load_5d_to(uint16_t ctas, uint32_t to, const void *map, uint32_t barrier,
                                      const int32_t (&x)[5], uint64_t) {
    emulator::copy_box(ctas, to, map, barrier, x);
}
static inline void ptx_tma_load_5d(uint32_t to, const void *map, uint32_t barrier, const int32_t (&x)[5],
                                   uint64_t policy) {
    ptx_tma_load_5d_to((uint16_t)(1 << emulator::cta_rank()), to, map, barrier, x, policy);
}
static inline void ptx_tma_load_3d(uint32_t to, const void *map, uint32_t barrier, int32_t x0, int32_t x1, int32_t x2) {
    const int32_t x[] = {x0, x1, x2};
    emulator::copy_box(1u << emulator::cta_rank(), to, map, barrier, x);
}
static inline void ptx_prefetch_map(const void *) {
}
static inline void ptx_fence_async_smem() {
}

/* ---- a warpgroup's registers ---- */

template <int REGISTERS> static inline void ptx_give_registers() {
}
template <int REGISTERS> static inline void ptx_take_registers() {
}

#endif
