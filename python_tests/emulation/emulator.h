// What the two halves of the emulator share: threads.cpp runs the threads of a launch, memory.cpp
// keeps the books of what they read and write. A launch fails, and cudaGetErrorString says how,
// where
//   * a shuffle has not all 32 lanes, or a barrier not all threads;
//   * two threads use a word of a block's memory, one writes it, and no barrier is between;
//   * a block uses another's memory, and nothing makes that one stay;
//   * an access is misaligned, or outside of what cudaMalloc has given, if it was asked at all;
//   * memory is written that was read through the read-only path, or written by two threads;
//   * a thread leaves before copies that it has asked for have come;
//   * more dynamic memory is asked for than the kernel may have.
// What depends on the hardware does not show: its memory model within a warp, streams, graphs,
// speed.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace emulated {

enum class State { ready, shuffle, block_barrier, cluster_barrier, done };

struct Block;

struct Copy {
    void* target;
    const void* source;
    std::size_t bytes;
};

struct Fiber {
    uint3 thread, block;
    void* stack_pointer;
    char* stack;
    void* fake_stack;  // AddressSanitizer's
    Block* in;
    State state;
    unsigned mask;  // of the shuffle it waits at
    int value, lanes;
    unsigned long shuffles;
    std::vector<Copy> copies;  // that are on their way
};

// Who used a word of a block's memory last, after how many barriers, and whether another thread did
// after as many.
struct Use {
    const Fiber* by = nullptr;
    unsigned long block_barriers = 0, cluster_barriers = 0;
    bool others = false;
};
struct Word {
    Use writer, reader, reader_elsewhere;  // of the block, of another one
};

struct Block {
    unsigned long barriers;
    std::vector<char> shared;
    std::size_t shared_used;
    std::vector<std::pair<const void*, std::size_t>> arrays;  // name, place
    std::vector<Word> words;
    unsigned long used_from_elsewhere;  // at this count of cluster barriers
    bool ever_used_from_elsewhere;
};

extern std::vector<Block> blocks;       // of the cluster that runs
extern unsigned long cluster_barriers;  // that it has passed
extern Fiber* current;                  // the thread that runs, if one does

void fail(const std::string& what);  // ends the launch, and the thread that runs
bool failed();

bool toss();  // one or the other

void begin_block_memory(Block& block, std::size_t dynamic_bytes);
void end_block_memory(const Block& block);  // when all blocks of the cluster are done
void begin_global_memory();
void end_global_memory();  // when all of the launch are done

}  // namespace emulated
