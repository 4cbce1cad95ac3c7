/* SPDX-License-Identifier: Apache-2.0 */
/* wgmma for the emulator, in place of wgmma.cuh. A product reads its operands, also those in registers, at the latest
 * moment that the hardware may: when its warp waits for it; or, by chance, as soon as it is committed. */
#ifndef POD_EMULATOR_WGMMA_HPP
#define POD_EMULATOR_WGMMA_HPP

#define POD_WGMMA_CUH

#include "ptx.hpp"

static inline uint32_t wgmma_operand(uint32_t smem, uint32_t leading) {
    return (smem & 0x3ffff) >> 4 | (leading >> 4) << 16;
}
template <int GROUP_BYTES> static inline uint64_t wgmma_at(uint32_t operand, uint32_t bytes) {
    return (uint64_t)(1u << 30 | GROUP_BYTES >> 4) << 32 | (operand + (bytes >> 4));
}

/** What a descriptor says. */
struct wgmma_tile {
    uint32_t begin, leading, stride;
    explicit wgmma_tile(uint64_t descriptor)
        : begin((descriptor & 0x3fff) << 4), leading((descriptor >> 16 & 0x3fff) << 4),
          stride((descriptor >> 32 & 0x3fff) << 4) {
        if (descriptor >> 62 != 1) emulator::fail("descriptor %llx has another layout", (unsigned long long)descriptor);
    }
    /** The inner dimension k is contiguous. */
    uint16_t k_major(unsigned row, unsigned k) const {
        return smem_half(emulator::swizzle(begin + row / 8 * stride + row % 8 * 128 + k * 2));
    }
    /** Columns are contiguous, 64 of them in a row of 128 bytes. */
    uint16_t column_major(unsigned k, unsigned column) const {
        return smem_half(
            emulator::swizzle(begin + column / 64 * leading + k / 8 * stride + k % 8 * 128 + column % 64 * 2));
    }
};

/** The lane's part of d: rows lane / 4 and + 8 of its warp's sixteen, columns 2 (lane % 4) and + 1 of each eight. */
template <int COUNT, class A, class B>
static inline void wgmma_sum(bool is_bf16, float *d, bool adds, const A &a_bits, const B &b_bits) {
    unsigned lane = own_lane_index();
    float a[2][16];
    for (unsigned i = 0; i < 32; i++) a[i / 16][i % 16] = element_value(is_bf16, a_bits(lane / 4 + i / 16 * 8, i % 16));
    for (unsigned block = 0; block < COUNT / 4; block++) {
        for (unsigned j = 0; j < 2; j++) {
            unsigned column = block * 8 + lane % 4 * 2 + j;
            float sums[2] = {0.0f, 0.0f};
            for (unsigned k = 0; k < 16; k++) {
                float b = element_value(is_bf16, b_bits(k, column));
                sums[0] += a[0][k] * b;
                sums[1] += a[1][k] * b;
            }
            for (unsigned half = 0; half < 2; half++) {
                float &sum = d[block * 4 + half * 2 + j];
                sum = (adds ? sum : 0.0f) + sums[half];
            }
        }
    }
}

template <bool IS_BF16, int COUNT> static inline void wgmma_ss(float (&d)[COUNT], uint64_t a, uint64_t b, bool adds) {
    float *sums = d;
    emulator::self()->open_group.push_back([=] {
        wgmma_tile a_tile(a), b_tile(b);
        unsigned first_row = ptx_tid() / 32 % 4 * 16;
        wgmma_sum<COUNT>(
            IS_BF16, sums, adds, [&](unsigned row, unsigned k) { return a_tile.k_major(first_row + row, k); },
            [&](unsigned k, unsigned column) { return b_tile.k_major(column, k); });
    });
}

template <bool IS_BF16, int COUNT>
static inline void wgmma_rs_tb(float (&d)[COUNT], const uint32_t *a, uint64_t b, bool adds) {
    float *sums = d;
    emulator::self()->open_group.push_back([=] {
        wgmma_tile b_tile(b);
        const uint32_t own[4] = {a[0], a[1], a[2], a[3]};
        const uint32_t(*all)[emulator::SHARED_WORDS] = emulator::meet(own);
        wgmma_sum<COUNT>(
            IS_BF16, sums, adds,
            [&](unsigned row, unsigned k) {
                return all[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2] >> (16 * (k % 2)) & 0xffff;
            },
            [&](unsigned k, unsigned column) { return b_tile.column_major(k, column); });
    });
}

static inline void wgmma_fence() {
}
template <int PENDING> static inline void wgmma_wait() {
    emulated_thread *t = emulator::self();
    while (t->groups.size() > PENDING) {
        std::vector<emulator::product> group = t->groups.front();
        t->groups.erase(t->groups.begin());
        for (const emulator::product &p : group) p();
    }
}
static inline void wgmma_commit() {
    emulated_thread *t = emulator::self();
    t->groups.push_back(t->open_group);
    t->open_group.clear();
    bool is_early = shuffle(emulator::random_below(4), 0) == 0; /* the warp's first lane decides */
    if (is_early) wgmma_wait<0>();
}
template <int COUNT> static inline void wgmma_touch(float (&)[COUNT]) {
}

#define WGMMA_EMULATED(NAME, IS_BF16)                                                                                  \
    struct wgmma_##NAME {                                                                                              \
        template <int COUNT> static inline void ss(float (&d)[COUNT], uint64_t a, uint64_t b, bool adds) {             \
            wgmma_ss<IS_BF16>(d, a, b, adds);                                                                          \
        }                                                                                                              \
        template <int COUNT> static inline void rs_tb(float (&d)[COUNT], const uint32_t *a, uint64_t b, bool adds) {   \
            wgmma_rs_tb<IS_BF16>(d, a, b, adds);                                                                       \
        }                                                                                                              \
    };
WGMMA_EMULATED(bf16, true)
WGMMA_EMULATED(f16, false)
#undef WGMMA_EMULATED

#endif
