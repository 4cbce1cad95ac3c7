/* SPDX-License-Identifier: Apache-2.0 */
#include "machine.hpp"

#include "../fake_map.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <ucontext.h>

namespace emulator {

enum { STACK_BYTES = 128 * 1024, POISON_BYTE = 0xff };

struct mbarrier {
    bool exists;
    int32_t arrivals, pending;
    int64_t bytes; /**< expected and not there yet; negative while a copy is ahead of who announces it */
    uint32_t phase;
};

struct meeting_point {
    int arrived;
    uint64_t generation;
    bool any[2]; /**< whether someone said so in this generation (even or odd), and in the one before */
};

struct cta {
    unsigned rank, index;
    std::unique_ptr<char, decltype(&free)> smem = {nullptr, &free};
    std::vector<mbarrier> mbarriers; /**< one for every eight bytes */
    meeting_point named[NUM_NAMED_BARRIERS];
    std::vector<warp> warps;
};

/** A thread's stack, and what it waits for. */
struct fiber {
    thread state;
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    const char *waits_for;
    std::function<bool()> is_ready;
    bool is_done;
};

/** All that a cluster is. */
struct cluster {
    std::vector<cta> ctas;
    std::vector<fiber> fibers;
    std::vector<uint32_t> idleness; /**< of each warp: how often of 16 times it is passed over */
    std::vector<std::function<void()>> copies;
    meeting_point barrier;
    const std::function<void()> *kernel;
    ucontext_t scheduler;
    fiber *current;
    dim3 grid = 0;
};

static cluster *machine;
static std::mt19937 random_source;

thread *self() {
    return &machine->current->state;
}

uint32_t random_below(uint32_t bound) {
    return random_source() % bound;
}

static void print_waiting() {
    const cluster &c = *machine;
    for (size_t i = 0; i < c.fibers.size(); i++) {
        const fiber &f = c.fibers[i];
        if (f.is_done || (i % WARP_LANES != 0 && c.fibers[i - 1].waits_for == f.waits_for)) continue;
        fprintf(stderr, "  CTA %u, thread %d waits for %s\n", f.state.block->index, f.state.tid, f.waits_for);
    }
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "emulator: ");
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    if (machine != nullptr && machine->current != nullptr) {
        fprintf(stderr, "  in CTA %u, thread %d\n", self()->block->index, self()->tid);
    }
    if (machine != nullptr) print_waiting();
    abort();
}

/* ---- waiting ---- */

void wait_until(const char *what, const std::function<bool()> &is_ready) {
    fiber *f = machine->current;
    if (is_ready()) return;
    f->waits_for = what;
    f->is_ready = is_ready;
    swapcontext(&f->context, &machine->scheduler);
}

void yield() {
    fiber *f = machine->current;
    f->waits_for = "nothing";
    f->is_ready = [] { return true; };
    swapcontext(&f->context, &machine->scheduler);
}

/* ---- the warp ---- */

static warp &own_warp() {
    return self()->block->warps[(size_t)self()->tid / WARP_LANES];
}

const uint32_t (*meet(const uint32_t (&values)[SHARED_WORDS]))[SHARED_WORDS] {
    warp &w = own_warp();
    uint64_t generation = w.generation;
    auto &shared = w.shared[generation % 2];
    memcpy(shared[self()->tid % WARP_LANES], values, sizeof values);
    if (++w.arrived == WARP_LANES) {
        w.arrived = 0;
        w.generation++;
    }
    wait_until("its warp", [&w, generation] { return w.generation != generation; });
    return shared;
}

/* ---- shared memory ---- */

unsigned cta_rank() {
    return self()->block->rank;
}

dim3 block_index() {
    unsigned index = self()->block->index, columns = machine->grid.x;
    return {index % columns, index / columns, 0};
}

int cta_threads() {
    return (int)self()->block->warps.size() * WARP_LANES;
}

dim3 grid_size() {
    return machine->grid;
}

char *own_smem() {
    return self()->block->smem.get();
}

uint32_t smem_address(const void *pointer) {
    ptrdiff_t offset = (const char *)pointer - own_smem();
    if (offset < 0 || offset > SMEM_BYTES) fail("%p is not in this CTA's shared memory", pointer);
    return (uint32_t)offset + SMEM_BEGIN;
}

char *smem_pointer_of(unsigned rank, uint32_t address, size_t bytes) {
    if (rank >= machine->ctas.size()) fail("the cluster has no CTA %u", rank);
    if (address < SMEM_BEGIN || address - SMEM_BEGIN + bytes > SMEM_BYTES) fail("address %x is outside", address);
    return machine->ctas[rank].smem.get() + (address - SMEM_BEGIN);
}

char *smem_pointer(uint32_t address, size_t bytes) {
    return smem_pointer_of(cta_rank(), address, bytes);
}

/* ---- barriers ---- */

static mbarrier &find_mbarrier(unsigned rank, uint32_t address) {
    smem_pointer_of(rank, address, sizeof(uint64_t));
    return machine->ctas[rank].mbarriers[(address - SMEM_BEGIN) / sizeof(uint64_t)];
}

static void end_phase(mbarrier &b) {
    if (b.pending != 0 || b.bytes != 0) return;
    b.pending = b.arrivals;
    b.phase++;
}

void mbarrier_init(uint32_t barrier, uint32_t arrivals) {
    find_mbarrier(cta_rank(), barrier) = {true, (int32_t)arrivals, (int32_t)arrivals, 0, 0};
}

void mbarrier_arrive(unsigned rank, uint32_t barrier, uint32_t expected_bytes) {
    mbarrier &b = find_mbarrier(rank, barrier);
    if (!b.exists) fail("%x is no barrier", barrier);
    if (b.pending == 0) fail("one arrival too many at %x", barrier);
    b.bytes += expected_bytes;
    b.pending--;
    end_phase(b);
}

void mbarrier_wait(uint32_t barrier, uint32_t parity) {
    const mbarrier &b = find_mbarrier(cta_rank(), barrier);
    if (!b.exists) fail("%x is no barrier", barrier);
    wait_until("a barrier in shared memory", [&b, parity] { return (b.phase & 1) != parity; });
}

/** Whether any thread that met said `vote`. */
static bool meet_at(meeting_point &point, int num_threads, const char *what, bool vote) {
    uint64_t generation = point.generation;
    point.any[generation % 2] |= vote;
    if (++point.arrived == num_threads) {
        point.arrived = 0;
        point.generation++;
        point.any[point.generation % 2] = false;
    }
    wait_until(what, [&point, generation] { return point.generation != generation; });
    return point.any[generation % 2];
}

bool named_barrier(int id, int num_threads, bool vote) {
    return meet_at(self()->block->named[id], num_threads, "a named barrier", vote);
}

void cluster_barrier() {
    meet_at(machine->barrier, (int)machine->fibers.size(), "the cluster", false);
}

/* ---- copies ---- */

/** One row of a box, 128 bytes, whose place is `x` (of its first element); what is outside of the tensor is zeros. */
static void copy_row(const fake_map &map, const int64_t *x, char *row) {
    const char *from = (const char *)map.address;
    bool exists = true;
    for (int d = 1; d < map.rank; d++) {
        exists &= x[d] >= 0 && x[d] <= (int64_t)map.extents[d];
        from += x[d] * (int64_t)map.strides[d - 1];
    }
    for (int i = 0; i < map.box[0]; i++) {
        int64_t column = x[0] + i;
        bool is_inside = exists && column >= 0 && column <= (int64_t)map.extents[0];
        if (is_inside)
            memcpy(row + 2 * i, from + 2 * column, 2);
        else
            memset(row + 2 * i, 0, 2);
    }
}

static void land(unsigned ctas, uint32_t to, const fake_map &map, uint32_t barrier, const std::vector<int64_t> &first) {
    enum { ROW_BYTES = 128, CHUNK_BYTES = 16 };
    std::vector<int64_t> x = first;
    uint32_t num_rows = 1;
    for (int d = 1; d < map.rank; d++) num_rows *= map.box[d];
    for (uint32_t row = 0; row < num_rows; row++) {
        char bytes[ROW_BYTES];
        uint32_t rest = row;
        for (int d = 1; d < map.rank; d++) {
            x[(size_t)d] = first[(size_t)d] + rest % map.box[d];
            rest /= map.box[d];
        }
        copy_row(map, x.data(), bytes);
        for (unsigned rank = 0; rank < machine->ctas.size(); rank++) {
            if ((ctas >> rank & 1) == 0) continue;
            for (uint32_t c = 0; c < ROW_BYTES; c += CHUNK_BYTES) {
                memcpy(smem_pointer_of(rank, swizzle(to + row * ROW_BYTES + c), CHUNK_BYTES), bytes + c, CHUNK_BYTES);
            }
        }
    }
    for (unsigned rank = 0; rank < machine->ctas.size(); rank++) {
        if ((ctas >> rank & 1) == 0) continue;
        mbarrier &b = find_mbarrier(rank, barrier);
        b.bytes -= num_rows * ROW_BYTES;
        end_phase(b);
    }
}

void copy_box(unsigned ctas, uint32_t to, const void *map, uint32_t barrier, const int32_t *coordinates) {
    fake_map m;
    memcpy(&m, map, sizeof m);
    std::vector<int64_t> first(coordinates, coordinates + m.rank);
    if (to % 128 != 0) fail("a box begins at %x", to);
    machine->copies.push_back([=] { land(ctas, to, m, barrier, first); });
}

void begin_copy(const std::function<void()> &copy) {
    machine->copies.push_back(copy);
}

/** Some of the copies that are under way, in any order. */
static void land_copies(bool at_least_one) {
    std::vector<std::function<void()>> &copies = machine->copies;
    for (size_t i = copies.size(); i-- > 0;) {
        size_t pick = random_below((uint32_t)copies.size());
        if (!at_least_one && random_below(8) != 0) continue;
        at_least_one = false;
        std::function<void()> copy = copies[pick];
        copies.erase(copies.begin() + (ptrdiff_t)pick);
        copy();
    }
}

/* ---- running ---- */

static void enter() {
    (*machine->kernel)();
    machine->current->is_done = true;
    swapcontext(&machine->current->context, &machine->scheduler);
}

static void start(fiber &f) {
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = STACK_BYTES;
    f.context.uc_link = nullptr;
    f.waits_for = "its beginning";
    f.is_ready = [] { return true; };
    f.is_done = false;
    makecontext(&f.context, enter, 0);
}

/** Runs the warp's lanes as far as each gets. Returns whether any got on. */
static bool run_warp(size_t warp_index) {
    bool moved = false;
    for (size_t lane = 0; lane < WARP_LANES; lane++) {
        fiber &f = machine->fibers[warp_index * WARP_LANES + lane];
        if (f.is_done || !f.is_ready()) continue;
        machine->current = &f;
        swapcontext(&machine->scheduler, &f.context);
        machine->current = nullptr;
        moved = true;
    }
    return moved;
}

static bool is_over() {
    return std::all_of(machine->fibers.begin(), machine->fibers.end(), [](const fiber &f) { return f.is_done; });
}

static void schedule() {
    std::vector<size_t> order(machine->idleness.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    while (!is_over()) {
        bool moved = false, passed_over = false;
        std::shuffle(order.begin(), order.end(), random_source);
        for (size_t index : order) {
            if (random_below(16) < machine->idleness[index]) {
                passed_over = true;
                continue;
            }
            moved |= run_warp(index);
        }
        bool stuck = !moved && !passed_over;
        if (stuck && machine->copies.empty()) fail("deadlock");
        land_copies(stuck);
    }
    if (!machine->copies.empty()) fail("copies are under way at the end");
}

static void run_cluster(cluster &c, unsigned first_cta, unsigned num_threads) {
    machine = &c;
    c.barrier = {};
    for (cta &block : c.ctas) {
        block.index = first_cta + block.rank;
        memset(block.smem.get(), POISON_BYTE, SMEM_BYTES);
        std::fill(block.mbarriers.begin(), block.mbarriers.end(), mbarrier{});
        memset(block.named, 0, sizeof block.named);
        std::fill(block.warps.begin(), block.warps.end(), warp{});
    }
    for (size_t i = 0; i < c.fibers.size(); i++) {
        fiber &f = c.fibers[i];
        f.state = thread{};
        f.state.block = &c.ctas[i / num_threads];
        f.state.tid = (int)(i % num_threads);
        start(f);
    }
    /* Some warps are slow, each time others. */
    for (uint32_t &idleness : c.idleness) idleness = random_below(3) == 0 ? random_below(15) : 0;
    schedule();
    machine = nullptr;
}

void run(dim3 grid, unsigned cluster_ctas, unsigned num_threads, const std::function<void()> &kernel) {
    if (cluster_ctas == 0 || cluster_ctas > MAX_CLUSTER_CTAS || grid.x % cluster_ctas != 0)
        fail("grid of %u CTAs", grid.x);
    cluster c;
    c.grid = grid;
    c.kernel = &kernel;
    c.current = nullptr;
    c.ctas = std::vector<cta>(cluster_ctas);
    for (unsigned rank = 0; rank < cluster_ctas; rank++) {
        cta &block = c.ctas[rank];
        block.rank = rank;
        block.smem.reset((char *)aligned_alloc(SMEM_BEGIN, SMEM_BYTES));
        block.mbarriers.resize(SMEM_BYTES / sizeof(uint64_t));
        block.warps.resize(num_threads / WARP_LANES);
    }
    c.fibers = std::vector<fiber>(cluster_ctas * num_threads);
    for (fiber &f : c.fibers) f.stack.reset(new char[STACK_BYTES]);
    c.idleness.resize(c.fibers.size() / WARP_LANES);
    std::vector<unsigned> order(grid.x * grid.y / cluster_ctas);
    for (unsigned i = 0; i < order.size(); i++) order[i] = i * cluster_ctas;
    std::shuffle(order.begin(), order.end(), random_source);
    for (unsigned first_cta : order) run_cluster(c, first_cta, num_threads);
}

} // namespace emulator
