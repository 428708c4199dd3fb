// Runs the threads of a launch: cluster after cluster, and a cluster's warps in random order. Every
// thread is a fiber with a stack of its own, which runs until it waits for others, at a shuffle or
// a barrier.
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "emulator.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error \
    "The emulator switches stacks in x86-64's assembly; write emulated_switch for this processor."
#endif

// Saves this stack's registers on it and its pointer in *from, and goes on with the stack `to`.
extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
.type emulated_switch,@function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulated_switch,.-emulated_switch
)");

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulated {

static unsigned long of_environment(const char* name, unsigned long otherwise) {
    const char* value = std::getenv(name);
    return value ? std::strtoul(value, nullptr, 10) : otherwise;
}

Settings settings{of_environment("RRFAST_EMULATED_SEED", 1),
                  static_cast<unsigned>(of_environment("RRFAST_EMULATED_BLOCKS", 0)),
                  static_cast<unsigned>(of_environment("RRFAST_EMULATED_ENDS", 0)),
                  static_cast<unsigned>(of_environment("RRFAST_EMULATED_CAPABILITY", 90))};
std::map<const void*, unsigned long> launched;
std::vector<Launch>* launches;
std::vector<Block> blocks;
unsigned long cluster_barriers;
Fiber* current;

namespace {

constexpr unsigned kWarp = 32, kAllLanes = 0xffffffffu;
constexpr std::size_t kStack = 256 << 10;
constexpr std::size_t kDynamic = 48 << 10;  // that every kernel may have

std::string failure;
std::string last_error;       // what cudaGetErrorString says
std::recursive_mutex launch;  // one at a time
std::mt19937_64 draw;
std::map<const void*, std::size_t> dynamic_bytes;  // that a kernel may have
std::vector<Fiber> fibers;                         // of a cluster, block by block
void* scheduler;
void (*body)(const void*);
const void* context;

#ifdef __SANITIZE_ADDRESS__
const void* scheduler_stack;
std::size_t scheduler_stack_size;
#endif

void resume(Fiber& fiber) {
    current = &fiber;
    threadIdx = fiber.thread;
    blockIdx = fiber.block;
#ifdef __SANITIZE_ADDRESS__
    void* fake;
    __sanitizer_start_switch_fiber(&fake, fiber.stack, kStack);
#endif
    emulated_switch(&scheduler, fiber.stack_pointer);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    current = nullptr;
}

void wait(State state) {
    Fiber& self = *current;
    self.state = state;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(state == State::done ? nullptr : &self.fake_stack,
                                   scheduler_stack, scheduler_stack_size);
#endif
    emulated_switch(&self.stack_pointer, scheduler);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(self.fake_stack, &scheduler_stack, &scheduler_stack_size);
#endif
}

void run_thread() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    body(context);
    if (!current->copies.empty()) {
        fail("a thread leaves before copies that it has asked for have come");
    }
    wait(State::done);
    std::abort();
}

void prepare(Fiber& fiber) {
    if (!fiber.stack) {
        fiber.stack = static_cast<char*>(mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    }
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fiber.stack,
                                  kStack);  // its last thread has left without returning
#endif
    // A switch takes six registers and an address from here, and a function begins 8 bytes off 16.
    auto* top = reinterpret_cast<void**>(fiber.stack + kStack);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(&run_thread);
    top -= 6;
    std::fill_n(top, 6, nullptr);
    fiber.stack_pointer = top;
    fiber.fake_stack = nullptr;
    fiber.state = State::ready;
    fiber.shuffles = 0;
    fiber.copies.clear();
}

template <class List>
void in_random_order(List& list) {
    if (settings.seed != 0) {
        std::shuffle(list.begin(), list.end(), draw);
    }
}

// Runs a warp as far as it comes alone. False: it cannot go on.
bool run_warp(Fiber* lanes, unsigned count) {
    std::vector<unsigned> order(count);
    std::iota(order.begin(), order.end(), 0u);
    for (;;) {
        in_random_order(order);
        for (const unsigned lane : order) {
            if (lanes[lane].state == State::ready) {
                resume(lanes[lane]);
            }
            if (failed()) {
                return false;
            }
        }
        const auto shuffling = std::count_if(
            lanes, lanes + count, [](const Fiber& f) { return f.state == State::shuffle; });
        if (shuffling == 0) {
            return true;
        }
        if (shuffling != kWarp) {
            fail("a shuffle of " + std::to_string(shuffling) + " lanes");
            return false;
        }
        int values[kWarp];
        for (unsigned lane = 0; lane < kWarp; ++lane) {
            const Fiber& f = lanes[lane];
            if (f.mask != kAllLanes || f.lanes != lanes->lanes || f.shuffles != lanes->shuffles) {
                fail("lanes at different shuffles");
                return false;
            }
            values[lane] = f.value;
        }
        for (unsigned lane = 0; lane < kWarp; ++lane) {
            lanes[lane].value = values[lane ^ lanes[lane].lanes];
            lanes[lane].state = State::ready;
        }
    }
}

void run_cluster(unsigned first_block, unsigned cluster, unsigned threads, std::size_t dynamic) {
    cluster_barriers = 0;
    for (unsigned b = 0; b < cluster; ++b) {
        Block& block = blocks[b];
        block.barriers = 0;
        begin_block_memory(block, dynamic);
        for (unsigned i = 0; i < threads; ++i) {
            Fiber& fiber = fibers[b * threads + i];
            prepare(fiber);
            fiber.in = &block;
            fiber.work = {};
            fiber.lanes = 0;
            fiber.block = {first_block + b, 0, 0};
            fiber.thread = {i % blockDim.x, i / blockDim.x % blockDim.y,
                            i / blockDim.x / blockDim.y};
        }
    }
    const unsigned per_block = (threads + kWarp - 1) / kWarp;
    std::vector<unsigned> warps(cluster * per_block);
    std::iota(warps.begin(), warps.end(), 0u);
    for (;;) {
        in_random_order(warps);
        for (const unsigned warp : warps) {
            const unsigned first = warp % per_block * kWarp;
            if (!run_warp(&fibers[warp / per_block * threads + first],
                          std::min(kWarp, threads - first))) {
                return;
            }
        }
        bool released = false;
        unsigned at_cluster_barrier = 0, done = 0;
        for (unsigned b = 0; b < cluster; ++b) {
            Fiber* const own = &fibers[b * threads];
            const auto at = [&](State state) {
                return static_cast<unsigned>(std::count_if(
                    own, own + threads, [&](const Fiber& f) { return f.state == state; }));
            };
            const unsigned waiting = at(State::block_barrier);
            if (waiting == threads) {
                std::for_each(own, own + threads, [](Fiber& f) { f.state = State::ready; });
                ++blocks[b].barriers;
                released = true;
            } else if (waiting != 0) {
                fail("a barrier reached by " + std::to_string(waiting) + " of " +
                     std::to_string(threads) + " threads");
                return;
            }
            at_cluster_barrier += at(State::cluster_barrier);
            done += at(State::done);
        }
        if (done == cluster * threads) {
            std::for_each(blocks.begin(), blocks.end(), end_block_memory);
            return;
        }
        if (at_cluster_barrier == cluster * threads) {
            for (unsigned b = 0; b < cluster; ++b) {
                ++blocks[b].barriers;
            }
            std::for_each_n(fibers.begin(), cluster * threads,
                            [](Fiber& f) { f.state = State::ready; });
            ++cluster_barriers;
        } else if (!released) {
            fail("a cluster's barrier reached by " + std::to_string(at_cluster_barrier) + " of " +
                 std::to_string(cluster * threads) + " threads");
            return;
        }
    }
}

void add_up(unsigned threads, Launch& launch) {
    const auto each = [&](auto member) {
        for (unsigned i = 0; i < threads; ++i) {
            const auto own = fibers[i].work.*member;
            launch.all.*member += own;
            launch.most.*member = std::max(launch.most.*member, own);
        }
    };
    each(&Work::loaded);
    each(&Work::copied);
    each(&Work::kept);
    each(&Work::stored);
    each(&Work::shuffles);
    each(&Work::steps);
}

}  // namespace

void fail(const std::string& what) {
    if (!failed()) {
        failure = what;
    }
    if (current) {
        const auto& [x, y, z] = current->thread;
        failure += " (block " + std::to_string(current->block.x) + ", thread " + std::to_string(x) +
                   ", " + std::to_string(y) + ", " + std::to_string(z) + ")";
        wait(State::done);  // for good: what it was about to do might end the process
    }
}
bool failed() { return !failure.empty(); }
bool toss() { return (draw() & 1) != 0; }

void block_barrier() { wait(State::block_barrier); }
void cluster_barrier() { wait(State::cluster_barrier); }
unsigned cluster_rank() { return static_cast<unsigned>(current->in - blocks.data()); }
unsigned cluster_blocks() { return static_cast<unsigned>(blocks.size()); }
int shuffle_xor(unsigned mask, int value, int lanes) {
    Fiber& self = *current;
    ++self.work.shuffles;
    self.work.steps += lanes != self.lanes;  // words of one value go together
    self.mask = mask;
    self.value = value;
    self.lanes = lanes;
    ++self.shuffles;
    wait(State::shuffle);
    return self.value;
}

cudaError_t run(const cudaLaunchConfig_t& config, const void* kernel,
                void (*body_of_kernel)(const void*), const void* arguments) {
    const std::lock_guard<std::recursive_mutex> alone(launch);
    ++launched[kernel];
    unsigned cluster = 1;
    for (unsigned i = 0; i < config.numAttrs; ++i) {
        if (config.attrs[i].id == cudaLaunchAttributeClusterDimension) {
            cluster = config.attrs[i].val.clusterDim.x;
        }
    }
    const dim3 &grid = config.gridDim, &block = config.blockDim;
    const unsigned threads = block.x * block.y * block.z;
    const auto may_have = dynamic_bytes.find(kernel);
    const std::size_t most_dynamic = may_have == dynamic_bytes.end() ? kDynamic : may_have->second;
    if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y != 1 || grid.z != 1 || threads == 0 ||
        threads > 1024 || cluster == 0 || cluster > 8 || grid.x % cluster != 0 ||
        config.dynamicSmemBytes > most_dynamic || (cluster > 1 && settings.capability < 90)) {
        last_error = "invalid configuration argument";
        return cudaErrorInvalidConfiguration;
    }
    if (fibers.size() < cluster * threads) {
        fibers.resize(cluster * threads);
    }
    blocks.resize(cluster);
    draw.seed(settings.seed != 0 ? settings.seed++ : 0);
    begin_global_memory();
    failure.clear();
    body = body_of_kernel;
    context = arguments;
    blockDim = block;
    gridDim = grid;
    if (settings.most_blocks != 0) {
        gridDim.x = std::min(grid.x, (settings.most_blocks + cluster - 1) / cluster * cluster);
    }
    const unsigned clusters = gridDim.x / cluster, ends = settings.only_ends;
    std::vector<unsigned> order(ends != 0 ? std::min(clusters, 2 * ends) : clusters);
    std::iota(order.begin(), order.end(), 0u);
    if (clusters > order.size()) {
        std::iota(order.begin() + ends, order.end(), clusters - ends);
    }
    in_random_order(order);
    for (auto next = order.begin(); next != order.end() && !failed(); ++next) {
        run_cluster(*next * cluster, cluster, threads, config.dynamicSmemBytes);
        if (launches && next == order.begin()) {
            launches->push_back({kernel,
                                 grid,
                                 block,
                                 cluster,
                                 blocks[0].shared_used,
                                 {},
                                 {},
                                 blocks[0].barriers - cluster_barriers,
                                 cluster_barriers});
            add_up(cluster * threads, launches->back());
        }
    }
    if (!failed()) {
        end_global_memory();
    }
    last_error = failure;
    return failed() ? cudaErrorLaunchFailure : cudaSuccess;
}

}  // namespace emulated

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
// Those of an A100 and of an H100.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    const bool hopper = emulated::settings.capability >= 90;
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor:
            *value = static_cast<int>(emulated::settings.capability / 10);
            break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
            *value = (hopper ? 228 : 164) << 10;
            break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin:
            *value = (hopper ? 227 : 163) << 10;
            break;
    }
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
    int most = 0;
    cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    if (value > most) {
        emulated::last_error = "invalid argument";
        return cudaErrorInvalidConfiguration;
    }
    const std::lock_guard<std::recursive_mutex> alone(emulated::launch);
    emulated::dynamic_bytes[kernel] = value;
    return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t status) {
    return status == cudaSuccess ? "no error" : emulated::last_error.c_str();
}
