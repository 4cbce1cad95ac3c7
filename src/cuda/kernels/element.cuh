/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between the dtypes of variants.def, and nothing else: the 16-bit format of q, out and all products, and
 * what the cache holds: the same, or codes of e4m3. */
#ifndef POD_CUDA_ELEMENT_CUH
#define POD_CUDA_ELEMENT_CUH

#include "cuda/kernels/params.h"
#include "cuda/kernels/ptx/ptx_sm80.cuh"

/* ---- products ----
 *
 * even_codes(), odd_codes(): elements of the e4m3 codes in bytes 0 and 2, and in bytes 1 and 3, of four. A code's seven
 * low bits go to where the element's exponent ends, so that subnormal numbers are right as well; the exponents' biases
 * differ, so that a power of two is left: CODE_UNIT. These shifts and masks are full speed on every chip. The codes for
 * NaN count as 480 and -480. */

struct pod_products_bf16 {
    static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        ptx_mma_bf16(c, a, b0, b1);
    }
    static __device__ __forceinline__ uint32_t pack(float low, float high) {
        return ptx_cvt_bf16x2(low, high);
    }
    static __device__ __forceinline__ float2 unpack(uint32_t pair) {
        return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000));
    }
    static __device__ __forceinline__ uint32_t add_times_zero(uint32_t sums, uint32_t pair) {
        return ptx_fma_bf16x2(pair, 0, sums);
    }

    static constexpr float CODE_UNIT = 1.0f;
    static constexpr uint32_t BOTH_2_120 = 0x7b807b80; /* at once: sums of products 2^120 smaller may be subnormal */
    static __device__ __forceinline__ uint32_t even_codes(uint32_t four) {
        return ptx_fma_bf16x2((four << 4 & 0x07f007f0) | (four << 8 & 0x80008000), BOTH_2_120, 0);
    }
    static __device__ __forceinline__ uint32_t odd_codes(uint32_t four) {
        return ptx_fma_bf16x2((four >> 4 & 0x07f007f0) | (four & 0x80008000), BOTH_2_120, 0);
    }
};

struct pod_products_f16 {
    static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
        ptx_mma_f16(c, a, b0, b1);
    }
    static __device__ __forceinline__ uint32_t pack(float low, float high) {
        return ptx_cvt_f16x2(low, high);
    }
    static __device__ __forceinline__ float2 unpack(uint32_t pair) {
        return make_float2(ptx_cvt_from_f16(pair), ptx_cvt_from_f16(pair >> 16));
    }
    static __device__ __forceinline__ uint32_t add_times_zero(uint32_t sums, uint32_t pair) {
        return ptx_fma_f16x2(pair, 0, sums);
    }

    static constexpr float CODE_UNIT = 256.0f; /* into the scales: the smallest code's element is 2^-17, exact in f16 */
    static __device__ __forceinline__ uint32_t even_codes(uint32_t four) {
        return (four << 7 & 0x3f803f80) | (four << 8 & 0x80008000);
    }
    static __device__ __forceinline__ uint32_t odd_codes(uint32_t four) {
        return (four >> 1 & 0x3f803f80) | (four & 0x80008000);
    }
};

/* ---- caches ----
 *
 * key_unit(), value_unit(): what scores, and results, of a KV head are multiplied by. */

struct pod_cache_own {
    static constexpr int KV_BYTES = 2;
    static __device__ __forceinline__ float key_unit(const pod_kernel_params &, int32_t) {
        return 1.0f;
    }
    static __device__ __forceinline__ float value_unit(const pod_kernel_params &, int32_t) {
        return 1.0f;
    }
};

template <class PRODUCTS> struct pod_cache_f8e4m3 {
    static constexpr int KV_BYTES = 1;
    static __device__ __forceinline__ float unit(const float *scales, int64_t stride, int32_t kv_head) {
        return scales == nullptr ? PRODUCTS::CODE_UNIT : __ldg(scales + kv_head * stride) * PRODUCTS::CODE_UNIT;
    }
    static __device__ __forceinline__ float key_unit(const pod_kernel_params &params, int32_t kv_head) {
        return unit(params.k_scale, params.scale_stride, kv_head);
    }
    static __device__ __forceinline__ float value_unit(const pod_kernel_params &params, int32_t kv_head) {
        return unit(params.v_scale, params.scale_stride, kv_head);
    }
    /** Elements of four codes, in their order. */
    static __device__ __forceinline__ uint2 convert(uint32_t four) {
        uint32_t even = PRODUCTS::even_codes(four), odd = PRODUCTS::odd_codes(four);
        return make_uint2(__byte_perm(even, odd, 0x5410), __byte_perm(even, odd, 0x7632));
    }
};

/* ---- rows of variants.def ---- */

struct pod_element_bf16 : pod_products_bf16, pod_cache_own {};
struct pod_element_f16 : pod_products_f16, pod_cache_own {};
struct pod_element_bf16_f8e4m3 : pod_products_bf16, pod_cache_f8e4m3<pod_products_bf16> {};
struct pod_element_f16_f8e4m3 : pod_products_f16, pod_cache_f8e4m3<pod_products_f16> {};

#endif
