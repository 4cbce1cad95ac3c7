/* SPDX-License-Identifier: Apache-2.0 */
/* A libcuda.so.1 for machines without a GPU: "device" memory is the host's, everything runs at once, the planning
 * kernel is the core planner and the attention kernels are the oracle. It lets the backend's host code and the GPU
 * tests themselves be tested everywhere, and makes the driver fail on demand:
 *
 *   FAKE_CUDA_FAIL=cuLaunchKernel=700   this function returns that error
 *   FAKE_CUDA_VERSION=12020             the driver's version
 *   FAKE_CUDA_CAPABILITY=75             the GPU's
 *   FAKE_CUDA_SM_SMEM=167936            bytes of shared memory of an SM
 *   FAKE_CUDA_SMS=108                   SMs
 *   FAKE_CUDA_NO_VMM=1                  no virtual memory management
 *   FAKE_CUDA_PAGEABLE=1                kernels follow pointers of the host
 *   FAKE_CUDA_GPUS=2                    GPUs, all alike; none reaches another's memory
 *
 * Here are kernels and what runs them; fake_gpus.c has the GPUs, their contexts and their memory, fake_memory.c the
 * calls for virtual memory. */
#include "fake_driver.h"
#include "backend/backend.h"
#include "base/dtype.h"
#include "cache/append_core.h"
#include "cuda/kernels/append/append_params.h"
#include "cuda/kernels/merge/merge_params.h"
#include "cuda/kernels/params.h"
#include "cuda/kernels/peak/peak_params.h"
#include "cuda/kernels/plan/plan_params.h"
#include "emulator/emulated_kernels.h"
#include "fake_map.h"
#include "families/choice.h"
#include "gpu/images.h"
#include "schedule/cache_core.h"
#include "schedule/merge_core.h"
#include "schedule/planner.h"

#include <cuda.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_NODES = 16, RADIX_BITS = 8 };

/* ---- kernels ---- */

enum {
    PLAN_KERNEL = -1,
    PEAK_KERNEL = -2,
    FILL_KERNEL = -3,
    MERGE_KERNEL = -4,
    APPEND_KERNEL = -5,
    NUM_OTHER_KERNELS = 5
};

typedef struct fake_kernel {
    int32_t variant; /**< or one of the other kernels */
    int gpu;         /**< in whose context it was loaded */
} fake_kernel;

typedef struct fake_node {
    const fake_kernel *kernel;
    unsigned grid;
    union {
        pod_plan_params plan;
        pod_kernel_params attention;
        pod_peak_params peak;
        pod_merge_params merge;
        pod_append_params append;
    } params;
} fake_node;

static fake_kernel kernels[FAKE_MAX_GPUS][NUM_OTHER_KERNELS + POD_NUM_VARIANTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t check_pages(const pod_plan_params *p, int32_t r) {
    pod_shape shape = p->shapes[0];
    shape.causal = 0;
    shape.causal_per_request = NULL;
    pod_request request = pod_core_request(&shape, r);
    int32_t window = shape.window_tokens;
    for (int32_t m = 1; m < p->num_masks; m++) window = pod_core_wider_window(window, p->shapes[m].window_tokens);
    pod_page_range pages = pod_core_needed_pages(request.q_len, request.kv_len, window, p->page_size);
    if (p->page_table == NULL) {
        return pages.end > 1 ? 2 : (uint32_t)(pages.end == 1 && !pod_core_is_page(r, p->num_pages));
    }
    for (int32_t i = pages.begin; i < pages.end && i < p->max_pages; i++) {
        if (!pod_core_is_page(p->page_table[r * p->page_table_stride + i], p->num_pages)) return (uint32_t)i + 1;
    }
    return pages.end > p->max_pages ? (uint32_t)p->max_pages + 1 : 0;
}

/* ---- tensor maps ---- */

_Static_assert(sizeof(fake_map) <= sizeof(CUtensorMap), "a map holds it");

#ifndef FAKE_WITHOUT_TENSOR_MAPS
/** The rules of the driver's documentation, and what the sm90 kernels count on. */
EXPORT CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
                                       const cuuint64_t *extents, const cuuint64_t *strides, const cuuint32_t *box,
                                       const cuuint32_t *element_strides, CUtensorMapInterleave interleave,
                                       CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                       CUtensorMapFloatOOBfill fill) {
    FAKE("cuTensorMapEncodeTiled");
    int is_valid = (uintptr_t)map % 64 == 0 && (rank == 3 || rank == 5) && (uintptr_t)address % 16 == 0;
    is_valid &= type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    is_valid &= interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
    is_valid &= promotion == CU_TENSOR_MAP_L2_PROMOTION_NONE && fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
    fake_map kept = {.address = address, .rank = (uint8_t)rank, .is_bf16 = type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16};
    for (cuuint32_t i = 0; is_valid && i < rank; i++) {
        is_valid = extents[i] >= 1 && extents[i] <= UINT64_C(1) << 32 && box[i] >= 1 && box[i] <= 256;
        is_valid &= element_strides[i] == 1;
        if (i > 0) is_valid &= strides[i - 1] % 16 == 0 && strides[i - 1] > 0 && strides[i - 1] < UINT64_C(1) << 40;
        kept.extents[i] = (uint32_t)(extents[i] - 1);
        kept.box[i] = (uint16_t)box[i];
        if (i > 0) kept.strides[i - 1] = strides[i - 1];
    }
    if (!is_valid || box[0] * 2 != 128) return CUDA_ERROR_INVALID_VALUE;
    memcpy(map, &kept, sizeof kept);
    return CUDA_SUCCESS;
}
#endif

/** Byte offset of an element, less where it begins: the sum of coordinates times strides; -1 if it is outside. */
static int64_t map_offset(const fake_map *m, const int64_t *x) {
    int64_t offset = 2 * x[0];
    for (int i = 0; i < m->rank; i++) {
        if (x[i] < 0 || x[i] > (int64_t)m->extents[i]) return -1;
        if (i > 0) offset += x[i] * (int64_t)m->strides[i - 1];
    }
    return offset;
}

/** One element of a box, as the kernels name it: `half` and `column` of the head, `token` of the page. */
static int64_t kv_map_offset(const pod_kernel_params *p, const fake_map *m, int32_t head_halves, int32_t head,
                             int32_t half, int32_t column, int32_t page, int32_t token) {
    const int64_t wide[] = {column, token % 8, head * head_halves + half, token / 8, page};
    const int64_t narrow[] = {half * 64 + column, token, head * head_halves, page, 0};
    return map_offset(m, p->is_wide ? wide : narrow);
}

static int has_box(const fake_map *m, const uint16_t *box) {
    return memcmp(m->box, box, m->rank * sizeof *box) == 0;
}

/** Whether the map's elements are where base and strides say; looked at in the corners. */
static int kv_map_matches(const pod_kernel_params *p, const pod_tensor_map *map, int32_t dim, int32_t head_halves,
                          pod_dtype dtype, const void *base, pod_cache_strides strides) {
    fake_map m;
    memcpy(&m, map, sizeof m);
    int32_t halves = dim / 64, tokens = p->box_tokens;
    int has_boxes = p->page_table == NULL || p->shape.max_kv_len <= p->page_size || p->page_size % tokens == 0;
    const uint16_t wide[] = {64, 8, (uint16_t)halves, (uint16_t)(tokens / 8), 1}, narrow[] = {64, 8, 1, 1, 1};
    int matches = m.rank == 5 && m.address == base && m.is_bf16 == (dtype == POD_BF16) && has_boxes;
    matches &= tokens == 1 << p->box_shift && tokens >= 8 && has_box(&m, p->is_wide ? wide : narrow);
    int32_t heads[] = {0, p->shape.kv_heads - 1}, slots[] = {0, p->page_size - 1};
    int32_t pages[] = {0, p->is_wide ? (int32_t)m.extents[4] : (int32_t)m.extents[3]};
    for (int corner = 0; corner < 16; corner++) {
        int32_t head = heads[corner & 1], slot = slots[corner >> 1 & 1], page = pages[corner >> 2 & 1];
        int32_t half = corner >> 3 ? halves - 1 : 0, column = corner >> 3 ? 63 : 0;
        int64_t expected = 2 * (pod_core_cache_offset(&strides, page, slot, head) + half * 64 + column);
        matches &= kv_map_offset(p, &m, head_halves, head, half, column, page, slot) == expected;
    }
    /* Behind the page's last token, and before the first page, there is nothing. */
    matches &= kv_map_offset(p, &m, head_halves, 0, 0, 0, 0, p->page_size) == -1;
    return matches & (kv_map_offset(p, &m, head_halves, 0, 0, 0, -1, 0) == -1);
}

static int q_map_matches(const pod_kernel_params *p, pod_dtype dtype) {
    fake_map m;
    memcpy(&m, &p->q_map, sizeof m);
    int32_t group = p->shape.group;
    const uint16_t box[] = {64, (uint16_t)group, (uint16_t)(64 / group)};
    if (!p->has_q_map) return 64 % group != 0;
    const int64_t last[] = {p->head_dim - 1, p->shape.kv_heads * group - 1, pod_core_max(0, p->shape.max_q_tokens - 1)};
    int64_t expected = 2 * (last[0] + last[1] * p->q_head_stride + last[2] * p->q_token_stride);
    return m.rank == 3 && m.address == p->q && m.is_bf16 == (dtype == POD_BF16) && has_box(&m, box) &&
           map_offset(&m, last) == expected;
}

static int maps_match(const pod_kernel_params *p, pod_dtype dtype) {
    pod_cache_strides k_strides = {p->k_page_stride, p->k_token_stride, p->k_head_stride};
    pod_cache_strides v_strides = {p->v_page_stride, p->v_token_stride, p->v_head_stride};
    return q_map_matches(p, dtype) &&
           kv_map_matches(p, &p->k_map, p->head_dim, p->k_head_halves, dtype, p->k, k_strides) &&
           kv_map_matches(p, &p->v_map, p->v_head_dim, p->v_head_halves, dtype, p->v, v_strides);
}

/* ---- what kernels do ---- */

static void run_plan(const pod_plan_params *p) {
    int32_t digits[1 << RADIX_BITS];
    pod_team team = {0, 1, RADIX_BITS, digits};
    for (int32_t m = 0; m < p->num_masks; m++) {
        const pod_schedule *schedule = &p->schedules[m];
        pod_core_plan(&team, &p->shapes[m], &p->tiling, schedule);
        schedule->header->signature = p->signature;
        if (p->bad_request != NULL && schedule->header->first_error != INT32_MAX)
            *p->bad_request = 1 + schedule->header->first_error;
    }
    for (int32_t r = 0; r < p->shapes[0].num_requests; r++) {
        p->schedules[0].page_errors[r] = check_pages(p, r);
        if (p->bad_request != NULL && p->schedules[0].page_errors[r] != 0) *p->bad_request = 1 + r;
    }
}

static void tell_bad_tokens(const pod_append_job *job) {
    for (int32_t token = 0; job->given.bad_token != NULL && token < job->given.num_tokens; token++) {
        int32_t r = job->requests != NULL ? job->num_requests - 1 : -1;
        while (r >= 0 && !pod_append_core_owns(job, r, token)) r--;
        if (pod_append_core_place(job, r, token).is_bad) *job->given.bad_token = 1 + token;
    }
}

/** The library's own, on the host; or its own source, on the emulator. */
static void run_append(const pod_append_params *p, unsigned grid) {
    const pod_append_job *job = &p->job;
    pod_device *host = NULL;
    if (pod_emulate_append(grid, p)) return;
    if (pod_device_open("cpu:1", &host) != POD_OK || host->backend->append(host, job, NULL) != POD_OK) {
        fprintf(stderr, "fake kernel: %s\n", pod_error_message());
        abort();
    }
    pod_device_close(host);
    tell_bad_tokens(job);
}

static void run_merge(const pod_merge_params *p, unsigned grid) {
    if (pod_emulate_merge(grid, p)) return;
    pod_parts parts = pod_parts_init();
    parts.num_parts = p->num_parts;
    parts.num_tokens = (int32_t)(p->num_rows / p->q_heads);
    parts.q_heads = p->q_heads;
    parts.head_dim = p->head_dim;
    parts.part_dtype = (pod_dtype)p->part_dtype;
    parts.out_dtype = (pod_dtype)p->out_dtype;
    parts.part_outs = p->part_outs;
    parts.part_lses = p->part_lses;
    parts.part_token_stride = p->part_token_stride;
    parts.part_head_stride = p->part_head_stride;
    parts.part_lse_token_stride = p->part_lse_token_stride;
    parts.part_lse_head_stride = p->part_lse_head_stride;
    parts.out = p->out;
    parts.out_token_stride = p->out_token_stride;
    parts.out_head_stride = p->out_head_stride;
    parts.lse = p->lse;
    parts.lse_token_stride = p->lse_token_stride;
    parts.lse_head_stride = p->lse_head_stride;
    pod_device *host = NULL;
    if (pod_device_open("cpu:1", &host) != POD_OK || pod_merge(host, &parts, NULL) != POD_OK) {
        fprintf(stderr, "fake kernel: %s\n", pod_error_message());
        abort();
    }
    pod_device_close(host);
}

static void store_row(const pod_kernel_params *p, pod_dtype dtype, int64_t token, int32_t head, const double *out,
                      double lse) {
    int64_t offset = token * p->out_token_stride + head * p->out_head_stride;
    for (int32_t i = 0; i < p->v_head_dim; i++) pod__store(p->out, dtype, offset + i, (float)out[i]);
    if (p->lse != NULL) p->lse[token * p->lse_token_stride + head * p->lse_head_stride] = (float)lse;
}

/** One request as a batch of its own, through the oracle. */
static void run_request(const pod_kernel_params *p, const pod_variant *variant, int32_t r) {
    pod_request request = p->schedule.requests[r];
    int32_t q_heads = p->shape.group * p->shape.kv_heads, q_start[2] = {0, request.q_len}, own_page = r;
    int is_bad = request.error != POD_REQUEST_OK || p->schedule.page_errors[r] != 0;
    pod_limits limits = pod_limits_init();
    limits.q_heads = q_heads;
    limits.kv_heads = p->shape.kv_heads;
    limits.head_dim = p->head_dim;
    limits.v_head_dim = p->v_head_dim;
    limits.q_dtype = limits.out_dtype = variant->dtype;
    limits.kv_dtype = variant->kv_dtype;
    limits.page_size = p->page_size;
    limits.max_requests = 1;
    limits.max_q_tokens = pod_core_max(1, p->shape.max_q_tokens);
    limits.max_kv_len = p->shape.max_kv_len;
    pod_batch batch = pod_batch_init();
    batch.num_requests = 1;
    batch.q_start = q_start;
    batch.kv_len = &request.kv_len;
    batch.page_table = p->page_table != NULL ? p->page_table + r * p->page_table_stride : &own_page;
    batch.page_table_stride = batch.max_pages = pod_core_num_pages(request.kv_len, p->page_size);
    batch.num_pages = INT32_MAX;
    pod_mask mask = pod_mask_init();
    mask.causal = request.is_causal;
    mask.window_tokens = p->shape.window_tokens;
    mask.right_window_tokens = p->shape.right_window_tokens;
    batch.num_masks = 1;
    batch.masks = &mask;
    pod_tensors t = pod_tensors_init();
    t.q = (const uint16_t *)p->q + request.q_begin * p->q_token_stride;
    t.out = p->out;
    t.sinks = p->sinks;
    t.alibi_slopes = p->alibi_slopes;
    t.tree_mask = p->tree_mask != NULL ? p->tree_mask + request.q_begin : NULL;
    t.q_token_stride = p->q_token_stride, t.q_head_stride = p->q_head_stride;
    pod_cache c = pod_cache_init();
    c.k = (void *)(uintptr_t)p->k;
    c.v = (void *)(uintptr_t)p->v;
    c.k_page_stride = p->k_page_stride, c.k_token_stride = p->k_token_stride, c.k_head_stride = p->k_head_stride;
    c.v_page_stride = p->v_page_stride, c.v_token_stride = p->v_token_stride, c.v_head_stride = p->v_head_stride;
    c.k_scale = p->k_scale, c.v_scale = p->v_scale, c.scale_stride = p->scale_stride;
    t.softcap = p->softcap_log2 / POD_LOG2_E;
    t.scale = (p->softcap_log2 > 0 ? p->softcap_slope : p->alibi_scale) / POD_LOG2_E;
    size_t rows = (size_t)request.q_len * (size_t)q_heads;
    double *out = calloc(rows * (size_t)p->v_head_dim + 1, sizeof *out), *lse = calloc(rows + 1, sizeof *lse);
    if (!is_bad && pod_reference_attention(&limits, &batch, &t, &c, -1, out, lse) != POD_OK) {
        fprintf(stderr, "fake kernel: %s\n", pod_error_message());
        abort();
    }
    for (size_t row = 0; row < rows; row++) {
        store_row(p, variant->dtype, request.q_begin + (int64_t)row / q_heads, (int32_t)row % q_heads,
                  out + row * (size_t)p->v_head_dim, is_bad ? -HUGE_VAL : lse[row]);
    }
    free(out);
    free(lse);
}

/** 100 TFLOP/s and 1,000 GB/s alone, half of both together. */
static void run_peak(const pod_peak_params *p) {
    unsigned long long share = p->mode == POD_PEAK_BOTH ? 2 : 1;
    if (p->mode != POD_PEAK_MATH) {
        p->counts->read_ns = p->duration_ns;
        p->counts->read_bytes = 1000 * p->duration_ns / share;
    }
    if (p->mode != POD_PEAK_READ) {
        p->counts->math_ns = p->duration_ns;
        p->counts->flop = 100000 * p->duration_ns / share;
    }
}

/** The oracle in the kernel's place; or its own source, on the emulator. */
static void run_attention(const pod_kernel_params *p, const pod_variant *variant, unsigned grid) {
    if (pod_emulate(variant->kernel, grid, p)) return;
    for (int32_t r = 0; r < p->schedule.header->num_requests; r++) run_request(p, variant, r);
}

static void run_node(const fake_node *node) {
    pthread_mutex_lock(&lock);
    if (node->kernel->variant == PLAN_KERNEL) {
        run_plan(&node->params.plan);
    } else if (node->kernel->variant == PEAK_KERNEL) {
        run_peak(&node->params.peak);
    } else if (node->kernel->variant == MERGE_KERNEL) {
        run_merge(&node->params.merge, node->grid);
    } else if (node->kernel->variant == APPEND_KERNEL) {
        run_append(&node->params.append, node->grid);
    } else if (node->kernel->variant >= 0) {
        run_attention(&node->params.attention, &pod__variants[node->kernel->variant], node->grid);
    }
    pthread_mutex_unlock(&lock);
}

/* ---- streams and graphs ---- */

struct CUgraph_st {
    fake_node nodes[MAX_NODES];
    int num_nodes;
};

struct CUevent_st {
    struct timespec at;
};

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned int flags) {
    (void)flags;
    FAKE_IN_CONTEXT("cuStreamCreate");
    *stream = calloc(1, sizeof **stream);
    (*stream)->gpu = fake_current_gpu();
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
    free(stream);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamSynchronize(CUstream stream) {
    FAKE("cuStreamSynchronize");
    return stream != NULL && stream->capturing != NULL ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
    (void)stream, (void)event, (void)flags;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    FAKE("cuStreamIsCapturing");
    int is_capturing = stream != NULL && stream->capturing != NULL;
    *status = is_capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    (void)mode;
    stream->capturing = calloc(1, sizeof *stream->capturing);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    *graph = stream->capturing;
    stream->capturing = NULL;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long flags) {
    (void)flags;
    CUgraph copy = malloc(sizeof *copy);
    *copy = *graph;
    *executable = (CUgraphExec)(void *)copy;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    (void)stream;
    const struct CUgraph_st *graph = (const void *)executable;
    for (int i = 0; i < graph->num_nodes; i++) run_node(&graph->nodes[i]);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable) {
    free((void *)executable);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph graph) {
    free(graph);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventCreate(CUevent *event, unsigned int flags) {
    (void)flags;
    *event = calloc(1, sizeof **event);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy_v2(CUevent event) {
    free(event);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) {
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &event->at);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventSynchronize(CUevent event) {
    (void)event;
    return CUDA_SUCCESS;
}

#undef cuEventElapsedTime /* the header means the second version */
EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end) {
    *milliseconds = (float)((double)(end->at.tv_sec - begin->at.tv_sec) * 1e3 +
                            (double)(end->at.tv_nsec - begin->at.tv_nsec) * 1e-6);
    return CUDA_SUCCESS;
}

/* ---- modules ---- */

struct CUmod_st {
    const void *image;
    int gpu;
};

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    FAKE_IN_CONTEXT("cuModuleLoadData");
    *module = malloc(sizeof **module);
    **module = (struct CUmod_st){image, fake_current_gpu()};
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleUnload(CUmodule module) {
    free(module);
    return CUDA_SUCCESS;
}

/** Bytes of a fatbin: a header of 16, whose second half says how many follow. */
static size_t image_bytes(const void *fatbin) {
    uint64_t body_bytes;
    memcpy(&body_bytes, (const char *)fatbin + 8, sizeof body_bytes);
    return 16 + (size_t)body_bytes;
}

/** The image that a module was loaded from, by its bytes: the test's copy of the library has its own. */
static const char *image_name(CUmodule module) {
    const void *loaded = module->image;
    size_t bytes = image_bytes(loaded);
    for (size_t i = 0; i < POD_CUDA_NUM_IMAGES; i++) {
        const void *fatbin = pod__cuda_images[i].fatbin;
        if (image_bytes(fatbin) == bytes && memcmp(fatbin, loaded, bytes) == 0) return pod__cuda_images[i].name;
    }
    return "";
}

/** Asking the wrong module is an error to tools that watch the driver; here it stops the library. */
EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    FAKE("cuModuleGetFunction");
    const char *image = "peak";
    int32_t variant = -NUM_OTHER_KERNELS - 1;
    if (strcmp(name, POD_PLAN_KERNEL) == 0) variant = PLAN_KERNEL, image = "plan";
    if (strcmp(name, POD_MERGE_KERNEL) == 0) variant = MERGE_KERNEL, image = "merge";
    if (strcmp(name, POD_APPEND_KERNEL) == 0) variant = APPEND_KERNEL, image = "append";
    if (strcmp(name, POD_PEAK_KERNEL) == 0) variant = PEAK_KERNEL;
    if (strcmp(name, POD_PEAK_FILL_KERNEL) == 0) variant = FILL_KERNEL;
    for (int32_t i = 0; i < POD_NUM_VARIANTS; i++) {
        if (strcmp(name, pod__variants[i].kernel) == 0) variant = i, image = pod__variants[i].image;
    }
    if (strcmp(image, image_name(module)) != 0) return CUDA_ERROR_INVALID_HANDLE;
    if (variant < -NUM_OTHER_KERNELS) return CUDA_ERROR_NOT_FOUND;
    pthread_mutex_lock(&lock);
    fake_kernel *kernel = &kernels[module->gpu][variant + NUM_OTHER_KERNELS];
    *kernel = (fake_kernel){variant, module->gpu};
    pthread_mutex_unlock(&lock);
    *function = (CUfunction)(void *)kernel;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    (void)function, (void)attribute, (void)value;
    FAKE("cuFuncSetAttribute");
    return CUDA_SUCCESS;
}

/** CTAs of a kernel on an SM: what shared memory and threads allow; the launch bounds see to the registers. */
static int max_active_blocks(const fake_kernel *kernel) {
    const pod_variant *variant = &pod__variants[kernel->variant];
    int by_smem = fake_sm_smem_bytes() / (variant->tiles->smem_bytes + FAKE_RESERVED_SMEM_BYTES);
    int by_threads = 2048 / variant->tiles->threads;
    return by_smem < by_threads ? by_smem : by_threads;
}

EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, CUfunction function, int threads,
                                                            size_t shared_bytes) {
    FAKE("cuOccupancyMaxActiveBlocksPerMultiprocessor");
    const fake_kernel *kernel = (const void *)function;
    const pod_variant *variant = &pod__variants[kernel->variant];
    if (threads != variant->tiles->threads || shared_bytes != (size_t)variant->tiles->smem_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    *count = max_active_blocks(kernel);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                               unsigned int block_x, unsigned int block_y, unsigned int block_z,
                               unsigned int shared_bytes, CUstream stream, void **params, void **extra) {
    FAKE_IN_CONTEXT("cuLaunchKernel");
    if (extra != NULL || grid_z * block_y * block_z != 1) return CUDA_ERROR_INVALID_VALUE;
    fake_node node = {.kernel = (const fake_kernel *)(const void *)function, .grid = grid_x};
    if (grid_y != 1 && node.kernel->variant != APPEND_KERNEL) return CUDA_ERROR_INVALID_VALUE;
    /* Kernel, stream and current context are of one GPU. */
    if (node.kernel->gpu != fake_current_gpu()) return CUDA_ERROR_INVALID_HANDLE;
    if (stream != NULL && stream->gpu != node.kernel->gpu) return CUDA_ERROR_INVALID_HANDLE;
    if (node.kernel->variant == PEAK_KERNEL) {
        node.params.peak = *(const pod_peak_params *)params[0];
        if (block_x != POD_PEAK_THREADS || grid_x != POD_PEAK_CTAS_PER_SM * (unsigned)fake_num_sms())
            return CUDA_ERROR_INVALID_VALUE;
    } else if (node.kernel->variant == PLAN_KERNEL) {
        node.params.plan = *(const pod_plan_params *)params[0];
        if (block_x != POD_PLAN_THREADS || grid_x < (unsigned)node.params.plan.num_masks)
            return CUDA_ERROR_INVALID_VALUE;
    } else if (node.kernel->variant == MERGE_KERNEL) {
        node.params.merge = *(const pod_merge_params *)params[0];
        if (block_x != POD_MERGE_THREADS || grid_x < 1) return CUDA_ERROR_INVALID_VALUE;
    } else if (node.kernel->variant == APPEND_KERNEL) {
        node.params.append = *(const pod_append_params *)params[0];
        if (block_x != POD_APPEND_THREADS || shared_bytes != POD_APPEND_SMEM_BYTES ||
            grid_y != (unsigned)node.params.append.num_units ||
            grid_x * POD_APPEND_TOKENS < (unsigned)node.params.append.job.given.num_tokens) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    } else if (node.kernel->variant >= 0) {
        const pod_variant *variant = &pod__variants[node.kernel->variant];
        node.params.attention = *(const pod_kernel_params *)params[0];
        if (block_x != (unsigned)variant->tiles->threads || shared_bytes != (unsigned)variant->tiles->smem_bytes ||
            grid_x > (unsigned)(max_active_blocks(node.kernel) * fake_num_sms())) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        if (variant->family->needs_tensor_maps && !maps_match(&node.params.attention, variant->dtype)) {
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    if (stream == NULL || stream->capturing == NULL) {
        run_node(&node);
        return CUDA_SUCCESS;
    }
    if (stream->capturing->num_nodes == MAX_NODES) return CUDA_ERROR_OUT_OF_MEMORY;
    stream->capturing->nodes[stream->capturing->num_nodes++] = node;
    return CUDA_SUCCESS;
}
