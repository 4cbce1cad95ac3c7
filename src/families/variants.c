/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of variants.def as data. A row without tiles in its family's table does not compile. */
#include "families/choice.h"

/* Where a family's tables have their rows. */
#define POD_SM80_TILES(job, dim, ctas, threads, rows, keys, drows, dkeys, stage, ring, smem)                           \
    TILES_sm80_##job##_##dim##_##ctas,
#define POD_SM90_TILES(job, dim, ctas, vdim, threads, rows, keys, drows, dkeys, pairs, dslots, smem)                   \
    TILES_sm90_##job##_##dim##_##ctas,
#define POD_SM90MLA_TILES(job, dim, ctas, vdim, threads, rows, keys, drows, dkeys, smem)                               \
    TILES_sm90mla_##job##_##dim##_##ctas,
enum {
#include "families/sm80_tiles.def"
};
enum {
#include "families/sm90_tiles.def"
};
enum {
#include "families/sm90mla_tiles.def"
};

/* The dtype column: of q and out, and of the cache. */
enum {
    POD_DTYPE_f16 = POD_F16,
    POD_DTYPE_bf16 = POD_BF16,
    POD_DTYPE_f16_f8e4m3 = POD_F16,
    POD_DTYPE_bf16_f8e4m3 = POD_BF16
};
enum { POD_KV_f16 = POD_F16, POD_KV_bf16 = POD_BF16, POD_KV_f16_f8e4m3 = POD_F8E4M3, POD_KV_bf16_f8e4m3 = POD_F8E4M3 };

#define POD_VARIANT(family_, job, dtype_, dim, ctas)                                                                   \
    {.kernel = "pod_" #family_ "_" #job "_" #dtype_ "_d" #dim "_c" #ctas,                                              \
     .image = #family_ "_" #job,                                                                                       \
     .family = &pod__family_##family_,                                                                                 \
     .tiles = &pod__tiles_##family_[TILES_##family_##_##job##_##dim##_##ctas],                                         \
     .dtype = (pod_dtype)POD_DTYPE_##dtype_,                                                                           \
     .kv_dtype = (pod_dtype)POD_KV_##dtype_},
const pod_variant pod__variants[POD_NUM_VARIANTS] = {
#include "families/variants.def"
};
