/* SPDX-License-Identifier: Apache-2.0 */
/**
 * podattn: attention of a hybrid batch (prefill chunks and decode tokens of different requests) in one fused call.
 *
 * Read this file from top to bottom: it is ordered the way a program uses the library.
 *
 *   1. versions and status   every call returns a pod_status; pod_error_message() says what was wrong
 *   2. device                open "auto", "cpu", "cuda:0" or a planning-only "sim:h100"
 *   3. limits                the shapes that stay fixed while a server runs; they bound the workspace
 *   4. batch and plan        the requests of one step and the masks of its layers; planned once, used by every layer
 *   5. workspace             memory for the plan and for partial results, attached once
 *   6. cache, attention      two calls per layer: append, attend
 *   7. looking inside        what the plan decided, the double-precision oracle, merging, and the device's peak
 *   8. virtual cache         a cache in which every request is contiguous and grows by physical pages
 *
 * The shortest complete program (examples/hello.c runs it):
 *
 *   pod_device *device;             pod_device_open("auto", &device);
 *   pod_limits limits = pod_limits_init();           ... set heads, head_dim, dtypes, maxima
 *   pod_plan *plan;                 pod_plan_create(device, &limits, &plan);
 *   pod_workspace workspace = pod_workspace_init();
 *   pod_workspace_size(device, &limits, &workspace); ... allocate workspace.plan and workspace.scratch on the device
 *   pod_plan_attach(plan, &workspace);
 *   every step:                     pod_plan_build(plan, &batch, stream);
 *     every layer:                  pod_cache_append(plan, &append, &cache, stream);   ... or what the engine has
 *                                   pod_attention(plan, &tensors, &cache, stream);
 *
 * Words. A *request* is one sequence of the batch: `q_len` new tokens, whose keys are the last `q_len` of its `kv_len`
 * context tokens. *group* is the number of query heads per KV head. A *page* is a run of `page_size` tokens of the KV
 * cache; a contiguous cache is a cache with one page per request. All strides count elements, never bytes.
 *
 * Threads. A pod_device may be shared by any number of threads. A pod_plan and its workspace belong to one thread at a
 * time, and on a GPU to one stream: launches of one plan never overlap in time, or results are wrong without a word.
 * Several plans on one device run side by side.
 *
 * A CPU device has threads of its own, which start with the first call that needs them. Where the system gives fewer, a
 * call is slower and not wrong. In a forked child they start anew, and plans of the CPU go on; those of a GPU do not.
 *
 * Memory. The caller owns all of it. pod_plan_build() and pod_attention() allocate nothing, wait for nothing and read
 * nothing back from a GPU. On a CPU the first calls allocate what the threads need.
 *
 * Structs. Each begins with `struct_size`; start from pod_<struct>_init(), which sets it and zeros the rest. Zero is
 * the default of every field. A library accepts the smaller struct of an older header (fields that it lacks are zero)
 * and the larger one of a newer header if the fields that it does not know are zero. A struct that the library fills in
 * is filled as far as the caller's struct_size reaches.
 *
 * docs/operation.md says how to run it: streams, other work on the GPU, several GPUs, fork, and failures.
 *
 * Source: the fused schedule follows POD-Attention (ASPLOS 2025, arXiv 2410.18038); docs/architecture.md says where
 * this library goes its own way.
 */
#ifndef PODATTN_H
#define PODATTN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define POD_API
#else
#define POD_API __attribute__((visibility("default")))
#endif

/* ---------------------------------------------------------------------------------------------------------------- */
/* 1. Versions and status                                                                                            */
/* ---------------------------------------------------------------------------------------------------------------- */

/** The version of this header. Until 1.0 the promise holds within one minor version, from 1.0 within one major version:
 * the ABI only grows. Structs gain fields at their end, enumerators keep their values, functions keep their signatures.
 * The shared library's name (libpodattn.so.0.2) and the CMake package make the same promise. */
#define POD_VERSION_MAJOR 0
#define POD_VERSION_MINOR 2
#define POD_VERSION_PATCH 0
#define POD_VERSION_STRING "0.2.0"

/** The version of the library that is linked, for example "0.2.0". Never NULL. */
POD_API const char *pod_version(void);

/** Every status, its value and what it means. The values are part of the ABI. */
#define POD_STATUS_LIST(X)                                                                                             \
    X(POD_OK, 0, "done")                                                                                               \
    X(POD_E_ARGUMENT, 1, "an argument is invalid")                                                                     \
    X(POD_E_UNSUPPORTED, 2, "this backend cannot do that")                                                             \
    X(POD_E_LIMIT, 3, "the batch exceeds the limits of its plan")                                                      \
    X(POD_E_WORKSPACE, 4, "the workspace is too small, misaligned or was overwritten")                                 \
    X(POD_E_STATE, 5, "the call came out of order")                                                                    \
    X(POD_E_NO_MEMORY, 6, "out of memory")                                                                             \
    X(POD_E_NO_DEVICE, 7, "there is no such device, or it cannot be used")                                             \
    X(POD_E_DEVICE, 8, "the device or its driver reported an error")

typedef enum pod_status {
#define POD_STATUS_ENUM_(name, value, text) name = value,
    POD_STATUS_LIST(POD_STATUS_ENUM_)
#undef POD_STATUS_ENUM_
} pod_status;

/** The enumerator's name, for example "POD_E_LIMIT"; "POD_E_?" for a number that is none. Never NULL. */
POD_API const char *pod_status_name(pod_status status);

/** What the status means in general, for example "an argument is invalid". Never NULL. */
POD_API const char *pod_status_text(pod_status status);

/**
 * What exactly was wrong with the last call that failed on this thread: one line without a newline that names the
 * field, its index and the values, for example "kv_len[3] = 7 is smaller than q_len[3] = 9". Valid until this thread's
 * next failing call; "" before the first. A call that succeeds leaves it alone. Never NULL.
 */
POD_API const char *pod_error_message(void);

/* ---------------------------------------------------------------------------------------------------------------- */
/* 2. Device                                                                                                         */
/* ---------------------------------------------------------------------------------------------------------------- */

/** A backend and what it loaded. Shared by threads; outlives every plan made from it. */
typedef struct pod_device pod_device;

/**
 * Opens a device by name:
 *   "auto"       the first GPU if it works, otherwise the CPU; pod_device_info.note says why
 *   "cpu"        all cores that the process may use; "cpu:4" four threads (1..1024); "cpu:4,isa=avx2" not the
 *                kernels that are the fastest on this processor, by a trial of a millisecond once per process, but
 *                these: avx512-bf16, avx512, avx2 or generic
 *   "cuda:0"     the GPU of that ordinal, through its primary context
 *   "sim:h100"   plans as that device would, in a workspace of that size, refuses what it would, and computes nothing;
 *                also "sim:a100", "sim:cpu" and "sim:sms=N" (an H100 with N SMs, 1..1024). Its batches are in host
 *                memory; with batch_memory = POD_MEMORY_DEVICE it tells sizes and builds nothing
 * A GPU's name, real or simulated, may go on with options, each once, for comparing, as in "cuda:0,kernel=sm80,ctas=4":
 *   "fusion=sm|hfuse"           the two kinds of work meet on an SM (default), or in one CTA, warps split statically
 *   "policy=proportional|half"  an SM's CTAs alternate as the two kinds of work do in length (default), or one to one
 *   "ctas=auto|2|4"             CTAs per SM; auto is 2, but 4 smaller ones where an SM does not hold two of the large
 *   "kernel=auto|sm80|sm90"     kernel family: sm90 on compute capability 9.0 where it serves the limits, otherwise
 *                               sm80 (default); or one of them alone
 *   fusion=hfuse, policy= and ctas=2|4 ask for the sm80 family: it alone has these choices. fusion=hfuse and
 *   policy=half are baselines, which only a library configured with PODATTN_BASELINES has.
 *
 * Errors: POD_E_ARGUMENT (unknown name or option), POD_E_NO_DEVICE (it is not there or cannot be used; the message says
 * what to do), POD_E_NO_MEMORY. On error `*device` is NULL.
 */
POD_API pod_status pod_device_open(const char *name, pod_device **device);

/** Closes a device; every plan made from it must be gone. NULL is allowed. */
POD_API void pod_device_close(pod_device *device);

/** What a device is. */
typedef struct pod_device_info {
    size_t struct_size;
    char backend[16];     /**< "cpu", "cuda" or "sim" */
    char name[128];       /**< the processor's or the GPU's own name */
    char kernel[64];      /**< the instruction set or kernel family in use: "avx512-bf16", "sm90", ... */
    char note[256];       /**< why "auto" chose this device, or "" */
    int32_t num_ctas;     /**< workers that the schedule is made for (SMs x CTAs per SM on a GPU) */
    int32_t num_threads;  /**< host threads that compute, 0 on a GPU */
    int64_t memory_bytes; /**< the device's own memory, 0 where that is the host's */
    char families[64];    /**< kernel families that run on a GPU, the fastest first, as in "sm90 sm80"; "" elsewhere */
} pod_device_info;

/** A description of the device. Errors: POD_E_ARGUMENT (NULL, wrong struct_size). */
POD_API pod_status pod_device_get_info(const pod_device *device, pod_device_info *info);

/* ---------------------------------------------------------------------------------------------------------------- */
/* 3. Limits                                                                                                         */
/* ---------------------------------------------------------------------------------------------------------------- */

typedef enum pod_dtype {
    POD_F32 = 0,
    POD_F16 = 1,
    POD_BF16 = 2,
    POD_F8E4M3 = 3 /**< e4m3: 4 bits of exponent, 3 of fraction, up to 448, no infinity. Of caches alone */
} pod_dtype;

/** Bytes of one element, 0 for a number that is no dtype. */
POD_API size_t pod_dtype_size(pod_dtype dtype);
/** "f32", "f16", "bf16", "f8e4m3"; "?" for a number that is no dtype. Never NULL. */
POD_API const char *pod_dtype_name(pod_dtype dtype);

/** Where the arrays of a batch are. */
typedef enum pod_memory {
    POD_MEMORY_HOST = 0,  /**< host memory: every device takes this */
    POD_MEMORY_DEVICE = 1 /**< memory that only the GPU reads: the lengths may be known to the GPU alone */
} pod_memory;

/** Most masks of one plan. */
#define POD_MAX_MASKS 8

/** Most query tokens of a request that has a tree: bits of a word of pod_tensors.tree_mask. */
#define POD_MAX_TREE_TOKENS 64

/** What stays fixed while a server runs: shapes, dtypes and the largest batch. */
typedef struct pod_limits {
    size_t struct_size;
    int32_t q_heads;      /**< query heads, 1..1024 */
    int32_t kv_heads;     /**< key/value heads; divides q_heads */
    int32_t head_dim;     /**< elements per head of q and k: a multiple of 8, 8..576; of GPUs up to 256 */
    pod_dtype q_dtype;    /**< of q */
    pod_dtype kv_dtype;   /**< of k and v */
    pod_dtype out_dtype;  /**< of out */
    int32_t page_size;    /**< tokens per page, from 1 up; of a contiguous cache: its tokens per request */
    int32_t max_requests; /**< requests in one batch, from 1 up */
    int32_t max_q_tokens; /**< sum of q_len over one batch, from 1 up */
    int32_t max_kv_len;   /**< context tokens of one request, from 1 up */
    int32_t v_head_dim;   /**< elements per head of v and out, in the same range; 0: head_dim */
    int32_t max_masks;    /**< masks of one plan, 1..POD_MAX_MASKS; 0: 1 */
    /** POD_MEMORY_HOST: batches may be in host or in device memory; the workspace of a GPU has room for copies of host
     * arrays, which grows with max_requests * max_kv_len / page_size. POD_MEMORY_DEVICE: batches are in device memory
     * alone, and the workspace has no such room. */
    pod_memory batch_memory;
    /* What calls of a plan may ask for beyond the usual masks, 1 or 0. A GPU has kernels of their own for it, and
     * refuses by name what was not said here; a CPU needs none of it said. */
    int32_t tree_masks;    /**< pod_tensors.tree_mask */
    int32_t alibi;         /**< pod_tensors.alibi_slopes */
    int32_t right_windows; /**< pod_mask.right_window_tokens */
} pod_limits;

/* ---------------------------------------------------------------------------------------------------------------- */
/* 4. Batch and plan                                                                                                 */
/* ---------------------------------------------------------------------------------------------------------------- */

/**
 * Which keys a query token sees. The token at position p of its context sees, if causal, the keys at positions up to
 * and including p, otherwise all kv_len; with `window_tokens` = W > 0 only those at positions > p - W, and with
 * `right_window_tokens` = R > 0 only those at positions < p + R. A window of flash-attention's, (left, right), is W =
 * left + 1 and R = right + 1.
 */
typedef struct pod_mask {
    size_t struct_size;
    int32_t causal;                    /**< 1 or 0, for all requests */
    int32_t window_tokens;             /**< 0: no window; otherwise keys that a query sees, its own position included */
    const int32_t *causal_per_request; /**< NULL, or [n] in the batch's memory: 1 or 0, instead of `causal` */
    int32_t right_window_tokens; /**< 0: none; otherwise keys from the query's own position on that it sees, that one
                                    included, up to 2^30. Of no effect on what is causal */
} pod_mask;

/**
 * The requests of one step, in any order: prefills, decodes, and empty ones as padding.
 *
 * Queries are packed: request r owns query tokens [q_start[r], q_start[r+1]). Its token i (of q_len) is at position
 * kv_len - q_len + i of its context (bottom-right aligned). A row that sees no key has output 0 and LSE -inf. So has
 * one whose scores are all -inf; a score of NaN or +inf makes a row's output and LSE NaN.
 *
 * Layers that mask differently (windows in every second layer, say) share one plan: name all masks here, and each
 * layer's in pod_tensors.mask. They are planned by one launch.
 *
 * The arrays must not change until the last pod_attention() of the step has finished.
 */
typedef struct pod_batch {
    size_t struct_size;
    pod_memory memory;         /**< of the arrays below and of the masks' */
    int32_t num_requests;      /**< n, from 0 up */
    const int32_t *q_start;    /**< [n + 1] query tokens; q_start[0] = 0, never decreasing */
    const int32_t *kv_len;     /**< [n] context tokens, each >= its q_len if causal, 0 allowed for an empty request */
    const int32_t *page_table; /**< [n, page_table_stride] page numbers; NULL: request r has the one page r */
    int64_t page_table_stride; /**< int32 entries from one request's row to the next; does not count if n is 1 */
    int32_t max_pages;         /**< entries of a row that may be read: the first ceil(kv_len / page_size) are, but for
                                  pages before all windows, whose entries may be anything */
    int32_t num_pages;         /**< pages of the cache: page numbers are in [0, num_pages). May change per build */
    int32_t num_q_tokens;      /**< tokens that q, out and lse will have; q_start may not exceed it. 0: max_q_tokens */
    int32_t num_masks;         /**< 0 to max_masks; 0: one mask, causal without a window */
    const pod_mask *masks;     /**< [num_masks] in host memory, each as long as masks[0].struct_size */
} pod_batch;

/** How a batch is spread over the device; reusable. One thread at a time. */
typedef struct pod_plan pod_plan;

/** Makes an empty plan for batches within `limits`. Errors: as pod_workspace_size(), POD_E_NO_MEMORY. On error `*plan`
 * is NULL. */
POD_API pod_status pod_plan_create(pod_device *device, const pod_limits *limits, pod_plan **plan);

/** Frees a plan. NULL is allowed. Work that uses it must have finished. */
POD_API void pod_plan_destroy(pod_plan *plan);

/** A stream of the device: a CUstream / cudaStream_t, NULL for the default stream. The CPU ignores it. */
typedef void *pod_stream;

/**
 * Plans one step into the attached workspace. A batch in host memory is validated completely first. Of one in device
 * memory nothing is read on the host: a request whose lengths or pages are wrong yields zeros (nothing, where its
 * q_start is wrong), the others are computed; pod_workspace.bad_request and pod_plan_check() tell. If this fails, the
 * plan has to be built again before pod_attention(). So has every other plan in whose plan part this one is built.
 * Errors: POD_E_ARGUMENT (names field, index, values), POD_E_LIMIT, POD_E_STATE (no workspace attached),
 * POD_E_UNSUPPORTED, POD_E_DEVICE.
 *
 * CUDA graphs. Both calls can be captured; a batch must then be in device memory. Two ways are supported:
 *   build and attention inside   each replay plans the lengths and pages that the arrays hold then
 *   build outside, attention in  each replay follows the last pod_plan_build() before it, if that build had the same
 *                                num_requests, num_pages, num_q_tokens and masks and the same addresses as the one that
 *                                was current during the capture
 * What may change between replays is what the arrays hold: q_start, kv_len, the page table and causal_per_request.
 */
POD_API pod_status pod_plan_build(pod_plan *plan, const pod_batch *batch, pod_stream stream);

/* ---------------------------------------------------------------------------------------------------------------- */
/* 5. Workspace                                                                                                      */
/* ---------------------------------------------------------------------------------------------------------------- */

/** Alignment of both parts of a workspace in bytes. */
#define POD_WORKSPACE_ALIGN 256

/**
 * A plan's memory, in the device's memory, aligned to POD_WORKSPACE_ALIGN, in two parts. `plan` holds the schedule: one
 * plan, one such part. `scratch` holds partial results during a pod_attention() call alone: plans whose calls never
 * overlap in time (all on one stream, say) may share it, if it is as large as the largest of them needs.
 */
typedef struct pod_workspace {
    size_t struct_size;
    void *plan;
    size_t plan_bytes;
    void *scratch;
    size_t scratch_bytes;
    /** NULL, or a word that the device can write (its own memory, or pinned host memory): pod_plan_build() stores
     * 1 + r there when it finds a request r in device memory to be wrong. The library never clears it, so that a bad
     * request cannot be missed, whenever the caller reads it. */
    int32_t *bad_request;
} pod_workspace;

/**
 * Fills in plan_bytes and scratch_bytes: what every batch within these limits needs. Depends on the device and the
 * limits alone.
 * Errors: POD_E_ARGUMENT (names the field), POD_E_UNSUPPORTED (limits that the device cannot do), POD_E_LIMIT.
 */
POD_API pod_status pod_workspace_size(const pod_device *device, const pod_limits *limits, pod_workspace *workspace);

/**
 * Gives a plan its workspace, which it keeps until another one is attached or the plan is destroyed. The plan has to be
 * built (again) afterwards. Errors: POD_E_ARGUMENT, POD_E_WORKSPACE (NULL, too small or misaligned); then the plan is
 * as before.
 */
POD_API pod_status pod_plan_attach(pod_plan *plan, const pod_workspace *workspace);

/* ---------------------------------------------------------------------------------------------------------------- */
/* 6. Cache and attention                                                                                            */
/* ---------------------------------------------------------------------------------------------------------------- */

/**
 * One layer's keys and values, of kv_dtype. The innermost dimension is always dense. A stride of 0 means packed, so
 * that no dimension can be broadcast: head stride head_dim (of v: v_head_dim), token stride kv_heads * head_dim, page
 * stride page_size * token stride (NHD). The stride of a dimension of one element (one KV head, page_size 1, num_pages
 * 1) does not count; the others are not negative, and reach no further than addresses do. Element (page p, token t,
 * head h, i) of k is k[p
 * * k_page_stride + t * k_token_stride + h * k_head_stride + i]; paged NHD and HND, interleaved K|V and per-layer
 * slices of a larger tensor are all a matter of strides.
 */
typedef struct pod_cache {
    size_t struct_size;
    void *k; /**< [num_pages, page_size, kv_heads, head_dim] */
    int64_t k_page_stride, k_token_stride, k_head_stride;
    /** Like k, [..., v_head_dim]. NULL: values are the first v_head_dim elements of k, which are at least as many; the
     * strides of v do not count then, v_scale has to be NULL, and k_scale is that of values too. */
    void *v;
    int64_t v_page_stride, v_token_stride, v_head_stride;
    const float *k_scale; /**< NULL, or what k is multiplied by: finite, above 0, in the device's memory */
    const float *v_scale; /**< NULL, or what v is multiplied by: likewise */
    int64_t scale_stride; /**< floats from one KV head's scale to the next; 0: one scale for all heads */
} pod_cache;

/**
 * One layer's queries, results and options. Strides of 0 mean packed: q and out token stride q_heads * head_dim, head
 * stride head_dim (of out: v_head_dim); lse token stride q_heads, head stride 1. As in a cache, that of one token or
 * one head does not count.
 *
 * out and lse overlap no input, not each other, not the workspace and not themselves: one of an output's two strides
 * steps over all that the other reaches. What overlaps for certain is refused; arrays may lie in one another's gaps.
 */
typedef struct pod_tensors {
    size_t struct_size;
    const void *q; /**< [q_tokens, q_heads, head_dim] of q_dtype */
    int64_t q_token_stride, q_head_stride;
    void *out; /**< [out_tokens, q_heads, v_head_dim] of out_dtype */
    int64_t out_token_stride, out_head_stride;
    float *lse; /**< NULL, or [out_tokens, q_heads]: natural-log sum of exponentials of the scores, sinks included */
    int64_t lse_token_stride, lse_head_stride;
    int32_t q_tokens;   /**< tokens of q; 0: not told. Told, it is refused if smaller than the batch's num_q_tokens */
    int32_t out_tokens; /**< the same of out and lse */
    int32_t mask;       /**< which of the batch's masks */
    float scale;        /**< score = scale * <q, k>, of at most 2e38; 0: 1 / sqrt(head_dim). Absorbed MLA needs the
                           model's own: docs/mla.md */
    float softcap;      /**< c > 0: score = c * tanh(score / c); 0: off */
    const float *sinks; /**< NULL, or [q_heads]: a score that joins each row's softmax without a value */
    const float *alibi_slopes; /**< NULL, or [q_heads]: score += slope * (key position - query position) */
    /** NULL, or [q_tokens] in the device's memory, read when attention runs: of the batch's query tokens, which of
     * their request's last q_len keys they see, the step's own tokens. Bit b of a token's word: key kv_len - q_len + b.
     * A tree of drafts has in each token's word the bits of its ancestors and its own. A word takes away from what the
     * mask shows and adds nothing: under a causal mask parents come before their children, otherwise any order will do.
     * Keys before the last q_len are seen as without a tree, and windows and ALiBi count by places in the context. A
     * request without a tree has words of all ones; of one with more than POD_MAX_TREE_TOKENS query tokens no word is
     * read. */
    const uint64_t *tree_mask;
} pod_tensors;

/**
 * out = softmax(score(q, k)) v for every request of the planned batch, one launch on `stream`. Every element of out and
 * lse that belongs to a query token of a request is written, no other.
 * Errors: POD_E_ARGUMENT, POD_E_UNSUPPORTED (names the field), POD_E_STATE (plan not built), POD_E_WORKSPACE,
 * POD_E_NO_MEMORY, POD_E_DEVICE. On all but the last nothing was written. On a CPU the calling thread computes too, and
 * 64 KiB of stack are enough.
 */
POD_API pod_status pod_attention(pod_plan *plan, const pod_tensors *tensors, const pod_cache *cache, pod_stream stream);

/** Which elements of a head are rotated together; j counts from 0 to rotary_dim / 2. */
typedef enum pod_rope_style {
    POD_ROPE_HALVES = 0, /**< j and j + rotary_dim / 2, as in GPT-NeoX and Llama */
    POD_ROPE_PAIRS = 1   /**< 2 j and 2 j + 1, "interleaved", as in GPT-J */
} pod_rope_style;

/** How frequencies differ from base^(-2 j / rotary_dim). docs/kv-cache.md has the formulas. */
typedef enum pod_rope_scaling {
    POD_ROPE_UNSCALED = 0,
    POD_ROPE_LINEAR = 1, /**< all divided by factor */
    POD_ROPE_LLAMA3 = 2, /**< the low ones divided by factor */
    POD_ROPE_YARN = 3    /**< the low ones divided by factor; cos and sin are multiplied by attention_factor */
} pod_rope_scaling;

/** Rotary position embedding: from tables, or from a base. A pair (x, y) at position p becomes (x cos - y sin,
 * y cos + x sin) of the angle p * frequency[j], computed in f32. */
typedef struct pod_rope {
    size_t struct_size;
    pod_rope_style style;
    int32_t rotary_dim;   /**< elements of each head that are rotated, the first ones: even, up to head_dim and 256; 0:
                             all */
    const void *cos;      /**< NULL, or [table_positions, rotary_dim / 2] of table_dtype in the device's memory */
    const void *sin;      /**< like cos; both are NULL, or neither */
    int64_t table_stride; /**< elements from one position to the next; 0: rotary_dim / 2 */
    int32_t table_positions; /**< positions are in [0, table_positions) */
    pod_dtype table_dtype;   /**< f32, f16 or bf16 */
    /* Without tables. Positions are in [0, 2^31). */
    double base; /**< 0: 10000; otherwise from 1 up */
    pod_rope_scaling scaling;
    int32_t original_context;                 /**< tokens that the model was trained with before; llama3 and yarn */
    double factor;                            /**< of all but unscaled */
    double low_freq_factor, high_freq_factor; /**< llama3: 0: 1 and 4 */
    double beta_fast, beta_slow;              /**< yarn: 0: 32 and 1 */
    double attention_factor;                  /**< yarn; 0: 0.1 ln(factor) + 1, of a factor below 1: 1 */
    int32_t yarn_is_exact; /**< 1: the ends of yarn's ramp are not rounded to whole j ("truncate": false) */
} pod_rope;

/**
 * New keys and values of one layer, and where they go; all arrays are in the device's memory. Strides of 0 mean packed,
 * as in pod_tensors; slices of one tensor that holds q, k and v are a matter of strides.
 *
 * Token t goes to slot_mapping[t], or without one to the place that the planned batch gives it: token i of request r to
 * position kv_len - q_len + i of its context, through the page table. Tokens of no request are left out.
 */
typedef struct pod_append {
    size_t struct_size;
    int32_t num_tokens; /**< of k, v, q and q_out. With the planned batch 0: not told; told, it is refused if smaller
                           than the batch's num_q_tokens */
    int32_t num_pages;  /**< with slot_mapping: pages of the cache; 0: those of the planned batch */
    pod_dtype dtype;    /**< of k, v and q: f32, f16 or bf16, whatever the cache's is */
    const void *k;      /**< [num_tokens, kv_heads, head_dim]; NULL, as v then is: q alone is rotated */
    int64_t k_token_stride, k_head_stride;
    const void *v; /**< [num_tokens, kv_heads, v_head_dim]; NULL where the cache's v is */
    int64_t v_token_stride, v_head_stride;
    const void *q; /**< NULL, or [num_tokens, q_heads, head_dim] */
    int64_t q_token_stride, q_head_stride;
    void *q_out; /**< like q, of the limits' q_dtype; may be q itself: the same address, dtype and strides */
    int64_t q_out_token_stride, q_out_head_stride;
    const int64_t *slot_mapping; /**< NULL, or [num_tokens]: page * page_size + place in the page; negative: the token's
                                    k and v are not stored */
    const void *positions;       /**< NULL: those in the planned batch; or [num_tokens], what the rotation goes by */
    int32_t position_bytes;      /**< of each of `positions`: 4 or 8, signed; 0: 8 */
    const int32_t *left_pad; /**< NULL, or [n] of the planned batch: request r's positions count from token left_pad[r]
                                of its context on (those before have 0). Where its tokens go stays */
    const pod_rope *rope;    /**< NULL: nothing is rotated; in host memory */
    int32_t *bad_token; /**< NULL, or a word that the device can write. A GPU stores 1 + t there when it leaves token t
                           out because its slot, position or pad is wrong; never cleared */
} pod_append;

/**
 * Stores a step's keys and values in the cache: rotated, divided by the cache's scales, and rounded to kv_dtype (f8e4m3
 * saturates at 448); and rotates its queries. One launch on `stream`, which can be captured as pod_attention() can.
 * Nothing else of the cache is written. Two tokens that go to one slot leave one of them there.
 *
 * The plan needs no build if slot_mapping and num_pages are given, and with a rope positions: it serves for its limits
 * and its device. Otherwise the batch is the last one built, and requests with wrong lengths or pages are left out.
 * Errors: POD_E_ARGUMENT (names the field; on a CPU also the token), POD_E_UNSUPPORTED (names the field, sim),
 * POD_E_STATE (plan not built), POD_E_WORKSPACE, POD_E_NO_MEMORY, POD_E_DEVICE. On all but the last nothing was
 * written.
 */
POD_API pod_status pod_cache_append(const pod_plan *plan, const pod_append *append, const pod_cache *cache,
                                    pod_stream stream);

/** Most parts that one pod_merge() joins. */
#define POD_MAX_PARTS 16

/** Partial results of the same query rows over disjoint sets of keys, and where their merged result goes. Strides as in
 * pod_tensors. out and lse overlap nothing else, unless they are a part: the same address, dtype and strides. */
typedef struct pod_parts {
    size_t struct_size;
    int32_t num_parts; /**< 1..POD_MAX_PARTS */
    int32_t num_tokens;
    int32_t q_heads;
    int32_t head_dim;                            /**< of out: a multiple of 8, 8..576; on a GPU up to 256 */
    pod_dtype part_dtype;                        /**< of every part: f32, f16 or bf16 */
    pod_dtype out_dtype;                         /**< of out */
    const void *const *part_outs;                /**< host array [num_parts] of [num_tokens, q_heads, head_dim] */
    const float *const *part_lses;               /**< host array [num_parts] of [num_tokens, q_heads], natural log */
    int64_t part_token_stride, part_head_stride; /**< of every part_outs; 0: packed */
    int64_t part_lse_token_stride, part_lse_head_stride; /**< of every part_lses; 0: packed */
    void *out; /**< [num_tokens, q_heads, head_dim]; may be one of the parts */
    int64_t out_token_stride, out_head_stride;
    float *lse; /**< NULL, or [num_tokens, q_heads]; may be one of the parts' */
    int64_t lse_token_stride, lse_head_stride;
} pod_parts;

/**
 * Merges partial results by their LSEs, as if each row had seen all keys in one call: for contexts that are spread over
 * several caches or devices, and for shared prefixes. A part whose LSE is -inf weighs nothing; a row without any other
 * part is 0, its LSE -inf. A sink must be counted in one part only.
 * Errors: POD_E_ARGUMENT (names the field), POD_E_UNSUPPORTED (sim), POD_E_NO_MEMORY, POD_E_DEVICE; on the first three
 * nothing was written.
 */
POD_API pod_status pod_merge(const pod_device *device, const pod_parts *parts, pod_stream stream);

/* ---------------------------------------------------------------------------------------------------------------- */
/* 7. Looking inside                                                                                                 */
/* ---------------------------------------------------------------------------------------------------------------- */

/** What a built plan decided for one of its masks, in numbers. Tokens and tiles as in docs/architecture.md. */
typedef struct pod_plan_info {
    size_t struct_size;
    int32_t num_ctas;            /**< workers of the schedule */
    int32_t prefill_tile_rows;   /**< query rows (tokens x group) of a prefill tile */
    int32_t prefill_tile_tokens; /**< keys per step of a prefill tile */
    int32_t decode_rows;         /**< most query rows of decode work; 0: the kernel computes decodes as prefill work */
    int32_t decode_tile_tokens;  /**< keys per step of decode work */
    int32_t num_requests;
    int32_t num_prefill_requests;
    int32_t num_decode_requests;
    int64_t num_prefill_items;  /**< prefill work items: row tile x KV part x KV head */
    int64_t num_prefill_splits; /**< of these, items that are a part of a split tile */
    int64_t num_prefill_tiles;  /**< KV tiles over all prefill items */
    int64_t num_decode_slices;  /**< equal slices of all decode tiles */
    int64_t num_decode_items;   /**< work items of all slices: request x KV head x KV range */
    int64_t num_decode_tiles;   /**< KV tiles over all decode items */
    char kernel[64]; /**< that computes the plan's batches: "pod_sm90_fused_bf16_d128_c1", "avx512"; "cpu" of sim:cpu */
    char kernel_note[256]; /**< why the GPU's fastest kernel family was not used: "sm90: page_size = 1 ..."; or "" */
} pod_plan_info;

/**
 * For a plan built on a GPU this waits for the stream of the build, which must still exist, and copies the plan to the
 * host: do not call it every step. In a CUDA graph it describes the last replay, which must have finished. Errors:
 * POD_E_ARGUMENT (`mask` is not one of the batch's), POD_E_STATE (not built, the stream is being captured, or the GPU
 * has not planned yet, which an overwritten header looks like), POD_E_WORKSPACE (overwritten since), POD_E_NO_MEMORY,
 * POD_E_DEVICE.
 */
POD_API pod_status pod_plan_get_info(const pod_plan *plan, int32_t mask, pod_plan_info *info);

/**
 * Whether every request of the built plan is in order. A batch in host memory was validated by pod_plan_build(); one in
 * device memory is checked by the device, and this call waits until `stream` has reached the plan. For debugging, and
 * after pod_workspace.bad_request was found set; not for every step.
 * Errors: POD_E_ARGUMENT names the first bad request, its field and values; POD_E_STATE (not built, `stream` is being
 * captured, or the GPU has not planned yet, which an overwritten header looks like), POD_E_WORKSPACE (overwritten
 * since), POD_E_DEVICE.
 */
POD_API pod_status pod_plan_check(const pod_plan *plan, pod_stream stream);

typedef enum pod_work_kind { POD_WORK_PREFILL = 0, POD_WORK_DECODE = 1 } pod_work_kind;

/** One piece of work: some query rows of one request and KV head against a range of keys. Row = token * group + head.
 */
typedef struct pod_work_item {
    pod_work_kind kind;
    int32_t ticket; /**< position in its queue: prefill items one each, or one for two KV heads of a narrow row tile,
                       which run at the same time; decode items share their slice's */
    int32_t request;
    int32_t kv_head;
    int32_t row_begin, row_end; /**< query rows [row_begin, row_end) within the request */
    int32_t kv_begin, kv_end;   /**< keys [kv_begin, kv_end), tile-aligned but for the ends */
    int32_t num_tiles;          /**< KV tiles, at least 1 */
    int32_t part, num_parts;    /**< this part of num_parts that are merged; 0 of 1 if whole */
} pod_work_item;

/**
 * Calls `visit` for every item of the schedule of one mask: the prefill queue in order, then the decode queue in order.
 * Stops early when `visit` returns non-zero. Waits, and errors, as pod_plan_get_info().
 */
POD_API pod_status pod_plan_visit(const pod_plan *plan, int32_t mask,
                                  int (*visit)(void *context, const pod_work_item *item), void *context);

/** One kernel of a device, and how pictures of its schedules are drawn. */
typedef struct pod_kernel_info {
    size_t struct_size;
    char name[64];           /**< as pod_plan_info.kernel on the device that runs it */
    char family[16];         /**< "sm90", "sm80" or "cpu" */
    char options[64];        /**< that choose it in the device's name, as in "kernel=sm80,ctas=4"; "" if nothing does */
    pod_dtype dtype;         /**< of q and out; of no meaning where head_dim is 0 */
    int32_t head_dim;        /**< 0: it takes all that its family takes; of a "padded" one: the largest */
    int32_t ctas_per_sm;     /**< that it is made for; 0 on a CPU */
    char row_name[16];       /**< what shares tensor cores and memory bandwidth: "SM", "pair" (of SMs), "worker" */
    int32_t ctas_per_row;    /**< workers of the schedule in such a row */
    int32_t num_lanes;       /**< pieces of work that are under way in it at the same time */
    int32_t has_fixed_lanes; /**< lane 0 is prefill's alone and lane 1 decode's */
    pod_dtype kv_dtype;      /**< of k and v; as dtype */
    int32_t v_head_dim;      /**< of values, which are in k: `v` is NULL; 0: values of their own, as wide as keys */
} pod_kernel_info;

/**
 * Calls `visit` for every kernel that runs on the device, whatever the options in its name, the fastest family first;
 * on a simulated device for those of the one that it plays. Stops early when `visit` returns non-zero.
 * Errors: POD_E_ARGUMENT.
 */
POD_API pod_status pod_device_visit_kernels(const pod_device *device,
                                            int (*visit)(void *context, const pod_kernel_info *info), void *context);

/**
 * The oracle: the same attention in double precision, straight from the definition, on the host. No plan, no tiles.
 * `tensors->out` and `tensors->lse` are ignored; `out` [total_q, q_heads, v_head_dim] and `lse` [total_q, q_heads] (or
 * NULL) are packed doubles. `request` restricts it to one request; -1 computes all. Batch memory must be the host's.
 * Errors: POD_E_ARGUMENT, POD_E_LIMIT, POD_E_UNSUPPORTED, POD_E_NO_MEMORY; then nothing was written.
 */
POD_API pod_status pod_reference_attention(const pod_limits *limits, const pod_batch *batch, const pod_tensors *tensors,
                                           const pod_cache *cache, int32_t request, double *out, double *lse);

/**
 * What pod_cache_append() has to store, in double precision, on the host: `slots` [num_tokens] with page * page_size +
 * place in the page of each token, -1 where k and v are not stored; `k` [num_tokens, kv_heads, head_dim] and `v`
 * [num_tokens, kv_heads, v_head_dim] (NULL where the cache's v is) as in the cache before rounding; `q` [num_tokens,
 * q_heads, head_dim] (or NULL). Tokens of no request, and those whose slot or position is wrong, have slot -1 and
 * zeros. `batch` may be NULL where a plan would need no build. cache->k and cache->v are not read. Errors: as
 * pod_reference_attention().
 */
POD_API pod_status pod_reference_append(const pod_limits *limits, const pod_batch *batch, const pod_append *append,
                                        const pod_cache *cache, int64_t *slots, double *k, double *v, double *q);

/** Throughput measured over about one second. */
typedef struct pod_device_rate {
    double tflops;      /**< 10^12 multiplications and additions per second; 0: it did none */
    double gb_per_s;    /**< 10^9 bytes read from memory per second; 0: it read none */
    double clock_mhz;   /**< of the SMs meanwhile; 0 where nothing says */
    double power_watts; /**< of the GPU's board meanwhile; 0 where nothing says */
} pod_device_rate;

/** The highest rates that a device reaches, to compare attention's times with. */
typedef struct pod_device_peak {
    size_t struct_size;
    pod_device_rate read; /**< memory alone: all that can be read of several GB */
    pod_device_rate math; /**< alone: bf16 products on a GPU's tensor cores (mma.sync), float multiply-adds on a CPU */
    pod_device_rate both; /**< at the same time, one CTA of each kind on every SM; zeros on a CPU */
} pod_device_peak;

/**
 * Measures the peak with kernels that do nothing else. Takes some seconds and up to 4 GiB of the device's memory
 * meanwhile. Other work on the device spoils the result.
 * Errors: POD_E_ARGUMENT, POD_E_UNSUPPORTED (sim), POD_E_NO_MEMORY, POD_E_DEVICE.
 */
POD_API pod_status pod_device_measure_peak(const pod_device *device, pod_device_peak *peak);

/* ---------------------------------------------------------------------------------------------------------------- */
/* 8. Virtual cache                                                                                                  */
/* ---------------------------------------------------------------------------------------------------------------- */

/**
 * The KV cache of a model in which each request's keys and values are contiguous in virtual memory. Address ranges for
 * max_requests x max_kv_len tokens are reserved once; physical pages are mapped under them as the requests grow, by a
 * thread of the cache, ahead of need. Attention reads it as a contiguous cache: one page per request, no page table of
 * many entries. (After vAttention, arXiv 2405.04437.) docs/kv-cache.md says when to take it.
 *
 *   pod_virtual_cache_create(device, &config, &cache);
 *   pod_virtual_cache_get_layer(cache, layer, &layers[layer]);       once per layer: addresses never change
 *   pod_virtual_cache_open(cache, &request);                         a request begins
 *   every step s:
 *     pod_virtual_cache_ensure(cache, s, n, requests, kv_len);       the pages of this step are there
 *     pod_plan_build(), and of every layer: new keys and values, pod_attention(plan, &tensors, &layers[layer], stream)
 *     pod_virtual_cache_expect(cache, n, requests, next_kv_len);     maps pages of the next steps meanwhile
 *     pod_virtual_cache_finished(cache, t);                          steps up to t have left the device
 *   pod_virtual_cache_close(cache, request);                         it ends; its pages wait for the next one
 *
 * The request has page pod_virtual_page(request) of the layers' caches: with a page table of one column, which holds
 * these numbers, requests may come in any order in the batch; without one, request r of the batch is page r. The plan's
 * limits.page_size is pod_virtual_info.page_size.
 *
 * Threads. One thread at a time calls the functions of a cache; its own thread calls the driver only. In a forked child
 * a cache can be destroyed and nothing else.
 *
 * Steps. Pages move from one request to another, or back to the system, only when no step that may read them is under
 * way: when pod_virtual_cache_finished() has named the last step that pod_virtual_cache_ensure() was told for their
 * request. No call waits for the device. On a CPU a step has finished when its last pod_attention() has returned. What
 * a new request writes into pages that it takes over must be ordered after the steps before it, as on one stream.
 */
typedef struct pod_virtual_cache pod_virtual_cache;

/** Which elements are neighbours. */
typedef enum pod_virtual_layout {
    POD_VIRTUAL_PER_LAYER = 0, /**< a K and a V tensor per layer, each [requests, tokens, kv_heads, head_dim] */
    POD_VIRTUAL_MEGA = 1       /**< one tensor [requests, tokens, layers, 2, kv_heads, head_dim], K before V: a physical
                                  page serves all layers, so that a request wastes less than one page */
} pod_virtual_layout;

/** What a virtual cache is made for. */
typedef struct pod_virtual_config {
    size_t struct_size;
    int32_t num_layers;        /**< 1..1024 */
    int32_t kv_heads;          /**< 1..1024 */
    int32_t head_dim;          /**< a multiple of 8, 8..256; of keys and values */
    pod_dtype kv_dtype;        /**< of k and v */
    int32_t max_requests;      /**< open at the same time, from 1 up */
    int32_t max_kv_len;        /**< tokens of one request, from 1 up */
    pod_virtual_layout layout; /**< which elements are neighbours */
    int32_t has_no_thread;     /**< 1: no thread; ensure calls the driver itself, and expect does nothing */
    int64_t page_bytes;        /**< of a physical page: a multiple of the granularity; 0: 2 MiB or the granularity */
    int64_t max_bytes;         /**< most physical memory, whole pages of all tensors; 0: all that is there */
} pod_virtual_config;

/** What was made of it. */
typedef struct pod_virtual_info {
    size_t struct_size;
    int32_t page_size;         /**< for pod_limits: max_kv_len, rounded up to a multiple of 8 tokens */
    int32_t num_pages;         /**< for pod_batch: max_requests */
    int32_t num_tensors;       /**< that a token is spread over: 2 * num_layers, or 1 */
    int64_t token_bytes;       /**< of a token in one tensor */
    int64_t granularity_bytes; /**< of the driver's mappings */
    int64_t page_bytes;        /**< of a physical page */
    int64_t row_bytes;         /**< num_tensors * page_bytes: by this much a request grows */
    int64_t request_bytes;     /**< of addresses of one request in one tensor */
    int64_t reserved_bytes;    /**< of addresses in all */
    void *base;                /**< the first of them */
} pod_virtual_info;

/** Bytes of physical memory now, and what was done since the cache was made. Shared pages count once. */
typedef struct pod_virtual_stats {
    size_t struct_size;
    int64_t physical_bytes; /**< taken from the system: used + waste + ahead + idle + spare, and rows under way */
    int64_t peak_bytes;     /**< most that it was */
    int64_t used_bytes;     /**< keys and values of open requests */
    int64_t waste_bytes;    /**< after their last tokens, in pages that they need */
    int64_t ahead_bytes;    /**< mapped to open requests that do not need it yet */
    int64_t idle_bytes;     /**< still mapped to closed requests */
    int64_t spare_bytes;    /**< mapped nowhere */
    int64_t shared_bytes;   /**< that sharing saves */
    int32_t num_open;       /**< requests */
    int64_t num_creates;    /**< calls of the driver that took a page from the system */
    int64_t num_releases;   /**< that gave one back */
    int64_t num_maps;
    int64_t num_unmaps;
    int64_t num_reused_rows; /**< rows that a request found mapped when it was opened */
    int64_t num_steps;       /**< calls of ensure that succeeded */
    int64_t num_waits;      /**< calls of ensure and fork that waited for the thread, or called the driver themselves */
    double driver_us;       /**< within calls of the driver */
    double wait_us;         /**< of all waits */
    double longest_wait_us; /**< of one call */
} pod_virtual_stats;

/**
 * Reserves the address ranges; no physical memory is taken yet. The device outlives the cache.
 * Errors: POD_E_ARGUMENT (names the field), POD_E_UNSUPPORTED (a device without memory of its own, a driver without
 * such calls), POD_E_LIMIT (more addresses than there are), POD_E_NO_MEMORY, POD_E_DEVICE. On error `*cache` is NULL.
 */
POD_API pod_status pod_virtual_cache_create(pod_device *device, const pod_virtual_config *config,
                                            pod_virtual_cache **cache);

/** Gives back all memory and addresses. NULL is allowed. Work that reads the cache must have finished. */
POD_API void pod_virtual_cache_destroy(pod_virtual_cache *cache);

/** Sizes. Errors: POD_E_ARGUMENT. */
POD_API pod_status pod_virtual_cache_get_info(const pod_virtual_cache *cache, pod_virtual_info *info);

/** Pointers and strides of a layer, which never change. Errors: POD_E_ARGUMENT. */
POD_API pod_status pod_virtual_cache_get_layer(const pod_virtual_cache *cache, int32_t layer, pod_cache *made);

/**
 * Begins a request, without tokens. It takes the address range with the most pages that are still mapped.
 * Errors: POD_E_ARGUMENT, POD_E_LIMIT (max_requests are open), POD_E_STATE (a forked child; or all closed requests
 * share pages that a step may still read: tell pod_virtual_cache_finished()).
 */
POD_API pod_status pod_virtual_cache_open(pod_virtual_cache *cache, int64_t *request);

/**
 * Begins a request with the first `num_tokens` tokens of another one: system prompts, several answers to a prompt.
 * Whole physical pages of the prefix are mapped at both places; of the page at its end, the part that belongs to the
 * prefix is copied, on `stream`. So the parent's tokens must be in the cache in the order of that stream, and neither
 * request may become shorter than what they share. Waits for the driver, not for the device: the copy has finished when
 * the next step has, and until then pages of both stay where they are.
 * Errors: as open; POD_E_ARGUMENT (`parent` is not open, num_tokens is more than it has); POD_E_NO_MEMORY;
 * POD_E_DEVICE. Then no request was opened.
 */
POD_API pod_status pod_virtual_cache_fork(pod_virtual_cache *cache, int64_t parent, int32_t num_tokens,
                                          pod_stream stream, int64_t *request);

/**
 * Ends a request. Its pages stay mapped for the next one that takes its place, until other requests need them.
 * Errors: POD_E_ARGUMENT (never opened, or closed already), POD_E_STATE (a forked child).
 */
POD_API pod_status pod_virtual_cache_close(pod_virtual_cache *cache, int64_t request);

/** The request's page in the layers' caches. */
static inline int32_t pod_virtual_page(int64_t request) {
    return (int32_t)(request & 0x7fffffff);
}

/**
 * Says that these requests will have these lengths: the thread maps what they lack. Name lengths of several steps ahead
 * if a page takes longer than a step. Returns immediately. A hint: lengths beyond max_kv_len count as that, what memory
 * does not allow is left out, and a driver's error shows in the ensure that needs the page.
 * Errors: POD_E_ARGUMENT (names the request), POD_E_STATE (a forked child).
 */
POD_API pod_status pod_virtual_cache_expect(pod_virtual_cache *cache, int32_t num_requests, const int64_t *requests,
                                            const int32_t *kv_len);

/**
 * Before step `step` (not smaller than in the call before): makes sure that these requests, the step's all, have memory
 * for kv_len tokens, new ones included. Waits only if the thread has not mapped it yet. A length may be smaller than
 * before, but not than what the request shares.
 * Errors: POD_E_ARGUMENT (names index and values), POD_E_LIMIT (kv_len is more than max_kv_len), POD_E_NO_MEMORY (says
 * how much is missing, and who has it), POD_E_DEVICE, POD_E_STATE (a forked child). On error no length has changed, and
 * no page was lost: close a request, or take one out, and call again.
 */
POD_API pod_status pod_virtual_cache_ensure(pod_virtual_cache *cache, int64_t step, int32_t num_requests,
                                            const int64_t *requests, const int32_t *kv_len);

/**
 * Every step up to `step` has finished on the device: what closed requests had is free for others. Smaller numbers than
 * before change nothing. Errors: POD_E_ARGUMENT (no such step was ensured yet), POD_E_STATE (a forked child).
 */
POD_API pod_status pod_virtual_cache_finished(pod_virtual_cache *cache, int64_t step);

/**
 * Gives memory back to the system, up to `bytes` rounded up to whole rows: spare rows, then those of closed requests,
 * then those that open ones do not need yet. `*freed_bytes` (NULL is allowed) says how much it was. Waits for the
 * driver. Errors: POD_E_ARGUMENT, POD_E_DEVICE (the rest stays), POD_E_STATE (a forked child).
 */
POD_API pod_status pod_virtual_cache_trim(pod_virtual_cache *cache, int64_t bytes, int64_t *freed_bytes);

/** Counts. Errors: POD_E_ARGUMENT, POD_E_STATE (a forked child). */
POD_API pod_status pod_virtual_cache_get_stats(pod_virtual_cache *cache, pod_virtual_stats *stats);

/* ---------------------------------------------------------------------------------------------------------------- */
/* Starting values: all zero but struct_size, and what a comment says                                                */
/* ---------------------------------------------------------------------------------------------------------------- */

#define POD_DEFINE_INIT_(type)                                                                                         \
    static inline type type##_init(void) {                                                                             \
        type value;                                                                                                    \
        memset(&value, 0, sizeof value);                                                                               \
        value.struct_size = sizeof value;                                                                              \
        return value;                                                                                                  \
    }
POD_DEFINE_INIT_(pod_device_info)
POD_DEFINE_INIT_(pod_limits)
POD_DEFINE_INIT_(pod_mask)
POD_DEFINE_INIT_(pod_batch)
POD_DEFINE_INIT_(pod_workspace)
POD_DEFINE_INIT_(pod_cache)
POD_DEFINE_INIT_(pod_tensors)
POD_DEFINE_INIT_(pod_rope)
POD_DEFINE_INIT_(pod_append)
POD_DEFINE_INIT_(pod_parts)
POD_DEFINE_INIT_(pod_plan_info)
POD_DEFINE_INIT_(pod_device_peak)
POD_DEFINE_INIT_(pod_kernel_info)
POD_DEFINE_INIT_(pod_virtual_config)
POD_DEFINE_INIT_(pod_virtual_info)
POD_DEFINE_INIT_(pod_virtual_stats)
#undef POD_DEFINE_INIT_

#ifdef __cplusplus
}
#endif
#endif
