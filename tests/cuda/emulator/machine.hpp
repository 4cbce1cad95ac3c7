/* SPDX-License-Identifier: Apache-2.0 */
/* A machine that runs kernels' own source on the CPU: the threads of a cluster as fibers, their shared memory, warps,
 * barriers and copies. It keeps time loosely on purpose. Warps run at random speeds, copies land late and in any order,
 * asynchronous products read their operands as early or as late as they may: what a kernel does not wait for shows as a
 * wrong result, and what nobody signals as a deadlock. */
#ifndef POD_EMULATOR_MACHINE_HPP
#define POD_EMULATOR_MACHINE_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace emulator {

enum { WARP_LANES = 32, MAX_CLUSTER_CTAS = 2, NUM_NAMED_BARRIERS = 16, SHARED_WORDS = 4 };

/** Shared memory as a kernel sees it: it begins at an address of its own. */
enum { SMEM_BEGIN = 1024, SMEM_BYTES = 232448 };

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned columns, unsigned rows = 1, unsigned layers = 1) : x(columns), y(rows), z(layers) {
    }
};

/** What a thread does not do itself but asks the tensor cores for; runs at the latest when the thread waits for it. */
typedef std::function<void()> product;

struct warp {
    uint64_t generation; /**< times that all lanes have met */
    int arrived;
    uint32_t shared[2][WARP_LANES][SHARED_WORDS]; /**< what the lanes showed each other at odd and even meetings */
};

struct cta;

struct thread {
    cta *block;
    int tid;
    std::vector<product> open_group;                /**< products not committed yet */
    std::vector<std::vector<product>> groups;       /**< committed, not yet done */
    std::vector<std::function<void()>> open_copies; /**< cp.async not committed yet */
    std::vector<std::vector<std::function<void()>>> copies;
};

/** The thread that runs. */
thread *self();

/* ---- waiting ---- */

/** Lets others run until `is_ready` holds; `what` is for the report of a deadlock. */
void wait_until(const char *what, const std::function<bool()> &is_ready);
/** Lets others run once. */
void yield();
/** A random number below `bound`. */
uint32_t random_below(uint32_t bound);
/** Ends the program with a message that names the thread. */
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- the warp ---- */

/** All lanes show `values` and see everybody's: [lane][word], valid until the next meeting but one. */
const uint32_t (*meet(const uint32_t (&values)[SHARED_WORDS]))[SHARED_WORDS];

/* ---- shared memory and barriers ---- */

unsigned cta_rank();
dim3 block_index();
int cta_threads();
dim3 grid_size();
char *own_smem();
uint32_t smem_address(const void *pointer);
/** Memory of a CTA of the cluster, by default of the own one. */
char *smem_pointer(uint32_t address, size_t bytes);
char *smem_pointer_of(unsigned cta, uint32_t address, size_t bytes);

/** 128-byte swizzle: within eight rows of 128 bytes, chunks of 16 bytes change places. */
inline uint32_t swizzle(uint32_t address) {
    return address ^ (address >> 7 & 7) << 4;
}

void mbarrier_init(uint32_t barrier, uint32_t arrivals);
void mbarrier_arrive(unsigned cta, uint32_t barrier, uint32_t expected_bytes);
void mbarrier_wait(uint32_t barrier, uint32_t parity);
/** Returns whether any thread that met said `vote`. */
bool named_barrier(int id, int num_threads, bool vote = false);
void cluster_barrier();

/** A box of a tensor map at some coordinates into the shared memory of the CTAs in `ctas`, some time later. */
void copy_box(unsigned ctas, uint32_t to, const void *map, uint32_t barrier, const int32_t *coordinates);

/** Any other copy, done some time later. */
void begin_copy(const std::function<void()> &copy);

/* ---- running ---- */

/** Runs a kernel of `grid` CTAs of `num_threads`, cluster after cluster in random order; clusters are along x. */
void run(dim3 grid, unsigned cluster_ctas, unsigned num_threads, const std::function<void()> &kernel);

} // namespace emulator

#endif
