// The emulator's books: who uses which word of a block's memory after how many barriers, and what a
// launch reads and writes of the device's.
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <vector>

#include "emulator.h"

namespace emulated {
namespace {

constexpr std::size_t kSharedBytes = 227 << 10;  // what a block of an H100 can have
constexpr std::size_t kWord = 2;                 // bytes of what two threads may not use at once
constexpr std::size_t kMostAccesses = 1 << 22;   // that are remembered of a launch

std::map<std::uintptr_t, std::size_t> allocations;

struct Access {
    std::uintptr_t begin, end;
    std::uint64_t thread;
    unsigned char bytes[16];
};
std::vector<Access> constant_reads, written;

void check(const void* memory, std::size_t bytes) {
    const auto begin = reinterpret_cast<std::uintptr_t>(memory);
    if (begin % bytes != 0) {
        fail("a misaligned access of " + std::to_string(bytes) + " bytes");
    }
    if (!allocations.empty()) {
        const auto after = allocations.upper_bound(begin);
        if (after == allocations.begin() ||
            begin + bytes > std::prev(after)->first + std::prev(after)->second) {
            fail("an access outside of every allocation");
        }
    }
}

void note(std::vector<Access>& list, const void* memory, std::size_t bytes) {
    check(memory, bytes);
    const auto begin = reinterpret_cast<std::uintptr_t>(memory);
    if (list.size() < kMostAccesses) {
        const auto& [x, y, z] = current->thread;
        const std::uint64_t thread =
            (std::uint64_t{current->block.x} << 10) | ((z * blockDim.y + y) * blockDim.x + x);
        Access access{begin, begin + bytes, thread, {}};
        std::memcpy(access.bytes, memory, bytes);
        list.push_back(access);
    }
}

Block* owner_of(const void* shared) {
    const auto* at = static_cast<const char*>(shared);
    for (Block& block : blocks) {
        if (at >= block.shared.data() && at < block.shared.data() + block.shared_used) {
            return &block;
        }
    }
    return nullptr;
}

// Two uses are in order if a barrier is between them: one of the block for its own threads, else
// one of the cluster.
bool at_once(const Use& earlier) {
    return earlier.by &&
           (earlier.by->in == current->in ? earlier.block_barriers == current->in->barriers
                                          : earlier.cluster_barriers == cluster_barriers);
}
bool others_at_once(const Use& earlier) {
    return at_once(earlier) && (earlier.by != current || earlier.others);
}

void use_shared(const void* memory, std::size_t bytes, bool writes) {
    Block* const owner = owner_of(memory);
    if (!owner) {
        fail("an access outside of a block's arrays");
    }
    Block& block = *owner;
    const bool elsewhere = &block != current->in;
    if (elsewhere) {
        block.ever_used_from_elsewhere = true;
        block.used_from_elsewhere = cluster_barriers;
    }
    const std::size_t first = static_cast<const char*>(memory) - block.shared.data();
    for (std::size_t i = first / kWord; i < (first + bytes + kWord - 1) / kWord; ++i) {
        Word& word = block.words[i];
        if (others_at_once(word.writer)) {
            fail("no barrier between a write to a block's memory and its next use");
        }
        if (writes && (others_at_once(word.reader) || others_at_once(word.reader_elsewhere))) {
            fail("no barrier between a use of a block's memory and the next write to it");
        }
        Use& use = writes ? word.writer : elsewhere ? word.reader_elsewhere : word.reader;
        use = {current, current->in->barriers, cluster_barriers, !writes && others_at_once(use)};
    }
}

}  // namespace

void reads_constant(const void* source, std::size_t bytes) {
    note(constant_reads, source, bytes);
    current->work.loaded += bytes;
}
void reads_constant_or_shared(const void* source, std::size_t bytes) {
    owner_of(source) ? reads_shared(source, bytes) : reads_constant(source, bytes);
}
void reads_changing(const void* source, std::size_t bytes) {
    check(source, bytes);
    current->work.loaded += bytes;
}
void writes(const void* target, std::size_t bytes) {
    note(written, target, bytes);
    current->work.stored += bytes;
}
void reads_shared(const void* source, std::size_t bytes) {
    use_shared(source, bytes, false);
    current->work.kept += bytes;
}
void writes_shared(const void* target, std::size_t bytes) { use_shared(target, bytes, true); }

void* dynamic_shared_memory() { return current->in->shared.data(); }

static void arrive(const Copy& copy) {
    writes_shared(copy.target, copy.bytes);
    std::memcpy(copy.target, copy.source, copy.bytes);
}
void copy_to_shared(void* target, const void* source, std::size_t bytes) {
    note(constant_reads, source, bytes);
    (bytes < 4 ? current->work.loaded : current->work.copied) += bytes;
    const Copy copy{target, source, bytes};
    if (reinterpret_cast<std::uintptr_t>(target) % bytes != 0) {
        fail("a misaligned copy of " + std::to_string(bytes) + " bytes");
    }
    if (bytes < 4 || toss()) {
        arrive(copy);
    } else {
        current->copies.push_back(copy);
    }
}
void wait_for_copies() {
    for (const Copy& copy : current->copies) {
        arrive(copy);
    }
    current->copies.clear();
}

void* shared_memory(const void* name, std::size_t bytes) {
    Block& block = *current->in;
    for (const auto& [known, place] : block.arrays) {
        if (known == name) {
            return &block.shared[place];
        }
    }
    const std::size_t place = (block.shared_used + 15) / 16 * 16;
    if (place + bytes > kSharedBytes) {
        fail("more memory than a block has");
    }
    block.arrays.emplace_back(name, place);
    block.shared_used = place + bytes;
    std::fill_n(&block.shared[place], bytes, static_cast<char>(0xff));
    std::fill_n(block.words.begin() + place / kWord, (bytes + kWord - 1) / kWord, Word{});
    return &block.shared[place];
}

void* in_block_of_cluster(void* shared, unsigned rank) {
    Block& block = blocks.at(rank);
    const std::ptrdiff_t place = static_cast<char*>(shared) - current->in->shared.data();
    if (place >= static_cast<std::ptrdiff_t>(block.shared_used)) {
        fail("memory of a block that may not have begun");
    }
    return block.shared.data() + place;
}

void begin_block_memory(Block& block, std::size_t dynamic_bytes) {
    block.shared.resize(kSharedBytes);
    block.words.resize(kSharedBytes / kWord);
    block.shared_used = dynamic_bytes;
    std::fill_n(block.shared.begin(), dynamic_bytes, static_cast<char>(0xff));
    std::fill_n(block.words.begin(), (dynamic_bytes + kWord - 1) / kWord, Word{});
    block.arrays.clear();
    block.ever_used_from_elsewhere = false;
}
void end_block_memory(const Block& block) {
    if (block.ever_used_from_elsewhere && block.used_from_elsewhere == cluster_barriers) {
        fail("a block may have left while others use its memory");
    }
}
void begin_global_memory() {
    constant_reads.clear();
    written.clear();
}
void end_global_memory() {
    for (const Access& r : constant_reads) {
        if (std::memcmp(reinterpret_cast<const void*>(r.begin), r.bytes, r.end - r.begin) != 0) {
            fail("memory that was read through the read-only path has been written");
            return;
        }
    }
    std::sort(written.begin(), written.end(),
              [](const Access& a, const Access& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < written.size(); ++i) {
        if (written[i].begin < written[i - 1].end && written[i].thread != written[i - 1].thread) {
            fail("two threads write the same memory");
            return;
        }
    }
}

}  // namespace emulated

// Larger ones are not backed by memory where nobody comes by.
constexpr std::size_t kSmallAllocation = 64 << 20;

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
    if (bytes <= kSmallAllocation) {
        // As many as are asked for, so that AddressSanitizer knows where they end.
        if (posix_memalign(memory, 256, bytes) != 0) {
            return cudaErrorMemoryAllocation;
        }
        std::memset(*memory, 0xff, bytes);
    } else {
        *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (*memory == MAP_FAILED) {
            return cudaErrorMemoryAllocation;
        }
    }
    emulated::allocations[reinterpret_cast<std::uintptr_t>(*memory)] = bytes;
    return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
    const auto found = emulated::allocations.find(reinterpret_cast<std::uintptr_t>(memory));
    if (found == emulated::allocations.end()) {
        return memory ? cudaErrorMemoryAllocation : cudaSuccess;
    }
    found->second <= kSmallAllocation ? std::free(memory)
                                      : static_cast<void>(munmap(memory, found->second));
    emulated::allocations.erase(found);
    return cudaSuccess;
}
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
    if (value != 0 || bytes <= kSmallAllocation) {
        std::memset(memory, value, bytes);
    }
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind) {
    std::memcpy(target, source, bytes);
    return cudaSuccess;
}
