/* SPDX-License-Identifier: Apache-2.0 */
/* How prefill and decode share a CTA. Where decode is the longer side, prefill has all of decode's time: its loads then
 * slow decode less if they are spread over that time, so they keep a pace, and it lends decode a slot of its ring. */
#ifndef POD_SM90_PACE_CUH
#define POD_SM90_PACE_CUH

#include "cuda/kernels/sm90/pipeline_sm90.cuh"

/* Prefill may be ahead of its share of decode's progress by a twentieth and some tiles; where it lends a slot, by these
 * tiles alone. */
#define PACE_LEAD 1.05f
#define PACE_LEAD_LENT 1.0f
#define PACE_LEAD_TILES 3.0f
enum { PACE_SLEEP_NS = 100 };

/* Prefill's last slot is lent where decode has so many tiles for each of prefill that it is the longer side. With
 * almost no prefill beside it decode fares better with it only if its tiles come in several boxes. */
#define LENDING_TILES 3.8f
#define LENDING_TILES_MOST 64.0f

template <class SHAPE> struct pace_sm90 {
    typedef smem_sm90<SHAPE> smem_type;

    /** Whether decode gets a slot of prefill's for this launch, before there are barriers. One lane. */
    static __device__ __forceinline__ void lend(const pod_kernel_params &params, smem_type &smem) {
        const pod_schedule_header *header = params.schedule.header;
        float decode_tiles = (float)header->num_decode_tiles, prefill_tiles = (float)header->num_prefill_steps;
        bool has_boxes = params.box_tokens < SHAPE::DECODE_TOKENS;
        smem.is_lent = SHAPE::LENT_SLOTS > 0 && decode_tiles >= LENDING_TILES * prefill_tiles &&
                       (has_boxes || decode_tiles <= LENDING_TILES_MOST * prefill_tiles);
    }

    /** How far prefill may be ahead of decode; until this is known, by some tiles. */
    static __device__ __forceinline__ void set(const pod_kernel_params &params, smem_type &smem) {
        const pod_schedule_header *header = params.schedule.header;
        float prefill_tiles = (float)header->num_prefill_steps * CLUSTER_CTAS;
        float lead = smem.is_lent ? PACE_LEAD_LENT : PACE_LEAD;
        float per_decode = lead * prefill_tiles / (float)max(header->num_decode_tiles, 1);
        atomicExch(&smem.pace.prefill_per_decode_f32, __float_as_int(per_decode));
    }

    /** Prefill's loader waits where it is ahead of decode by more than its share. */
    static __device__ __forceinline__ void keep(smem_type &smem, uint32_t tiles_loaded, int lane) {
        if constexpr (!SHAPE::DECODES) return;
        for (; lane == 0; __nanosleep(PACE_SLEEP_NS)) {
            float per_decode = __int_as_float(atomicOr(&smem.pace.prefill_per_decode_f32, 0));
            float decode_tiles = (float)atomicOr(&smem.pace.decode_tiles, 0);
            if ((float)tiles_loaded <= per_decode * decode_tiles + PACE_LEAD_TILES) break;
        }
        __syncwarp();
    }
};

#endif
