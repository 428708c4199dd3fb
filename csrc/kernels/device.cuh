// Everything in the kernels that only a compiler for GPUs understands: launches, shared memory, and
// instructions by name. All other code is plain C++, which python_tests/emulation runs unchanged on
// a CPU. It defines RRFAST_EMULATED and checks every access to memory; on a GPU the functions of
// `watch` are empty.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace rrfast::cuda {

// What a launcher must know about the current device.
struct Device {
    std::size_t shared;        // shared memory per block, in bytes, if two blocks share an SM
    std::size_t shared_alone;  // if a block has the SM alone
    unsigned cluster;          // largest number of blocks in a cluster; 1: no clusters

    static Device current() {
        int device = 0, of_processor = 0, of_block = 0, capability = 0;
        cudaGetDevice(&device);
        cudaDeviceGetAttribute(&of_processor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
        cudaDeviceGetAttribute(&of_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
        cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor, device);
        const int share = of_processor / 2 - 1024;  // reserved by the runtime
        const int least = 2048;                     // for the static shared memory of a kernel
        return {static_cast<std::size_t>((share < of_block ? share : of_block) - least),
                static_cast<std::size_t>(of_block - least), capability >= 9 ? 8u : 1u};
    }
};

// Blocks, threads per block, bytes of dynamic shared memory, and blocks per cluster.
struct Grid {
    dim3 blocks;
    dim3 threads;
    std::size_t shared = 0;
    unsigned cluster = 1;
};

// Enqueues a kernel and returns the status of this launch; a later call does not see it again.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Grid& grid, cudaStream_t stream,
                   Arguments&&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid.blocks;
    config.blockDim = grid.threads;
    config.dynamicSmemBytes = grid.shared;
    config.stream = stream;
    cudaLaunchAttribute clusters{};
    clusters.id = cudaLaunchAttributeClusterDimension;
    clusters.val.clusterDim = {grid.cluster, 1, 1};
    config.attrs = &clusters;
    config.numAttrs = grid.cluster > 1;
    constexpr std::size_t always = 48 << 10;  // a kernel must opt in to more
    cudaError_t status = cudaSuccess;
    if (grid.shared > always) {
        status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(grid.shared));
    }
    if (status == cudaSuccess) {
        status = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    }
    if (status != cudaSuccess) {
        cudaGetLastError();
    }
    return status;
}

#ifdef RRFAST_EMULATED

namespace watch = ::emulated;

template <class V, int Count>
V* shared_array() {
    static const char site = 0;  // one per instance, as the name of the array
    return static_cast<V*>(::emulated::shared_memory(&site, Count * sizeof(V)));
}

template <class V>
V* dynamic_shared() {
    return static_cast<V*>(::emulated::dynamic_shared_memory());
}
template <class Word>
void copy_to_shared(void* target, const Word* source) {
    ::emulated::copy_to_shared(target, source, sizeof(Word));
}
inline void wait_for_copies() { ::emulated::wait_for_copies(); }

inline unsigned cluster_blocks() { return ::emulated::cluster_blocks(); }
inline unsigned cluster_rank() { return ::emulated::cluster_rank(); }
inline void cluster_barrier() { ::emulated::cluster_barrier(); }
template <class V>
V* in_block_of_cluster(V* shared, unsigned rank) {
    return static_cast<V*>(::emulated::in_block_of_cluster(shared, rank));
}

template <class Word>
void store_word(Word* target, Word word) {
    *target = word;
}

#else

namespace watch {

__device__ __forceinline__ void reads_constant(const void*, std::size_t) {}
__device__ __forceinline__ void reads_constant_or_shared(const void*, std::size_t) {}
__device__ __forceinline__ void reads_changing(const void*, std::size_t) {}
__device__ __forceinline__ void writes(const void*, std::size_t) {}
__device__ __forceinline__ void reads_shared(const void*, std::size_t) {}
__device__ __forceinline__ void writes_shared(const void*, std::size_t) {}

}  // namespace watch

// An uninitialised array in static shared memory.
template <class V, int Count>
__device__ __forceinline__ V* shared_array() {
    __shared__ V array[Count];
    return array;
}

// The dynamic shared memory of the launch, uninitialised.
template <class V>
__device__ __forceinline__ V* dynamic_shared() {
    extern __shared__ uint4 dynamic_memory[];
    return reinterpret_cast<V*>(dynamic_memory);
}

// Copies a word from global to shared memory without a register; this thread may read it after
// wait_for_copies. A word of less than four bytes goes through a register.
template <class Word>
__device__ __forceinline__ void copy_to_shared(void* target, const Word* source) {
    const auto to = static_cast<unsigned>(__cvta_generic_to_shared(target));
    if constexpr (sizeof(Word) == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to),
                     "l"(__cvta_generic_to_global(source))
                     : "memory");
    } else if constexpr (sizeof(Word) >= 4) {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to),
                     "l"(__cvta_generic_to_global(source)), "n"(sizeof(Word))
                     : "memory");
    } else {
        const Word word = __ldg(source);
        memcpy(target, &word, sizeof(Word));
    }
}
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

// Clusters: the number of blocks, the rank of this block, a barrier, and the address in another
// block of what is `shared` here. Before sm_90 every block is a cluster.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ __forceinline__ unsigned cluster_blocks() { return __clusterSizeInBlocks(); }
__device__ __forceinline__ unsigned cluster_rank() { return __clusterRelativeBlockRank(); }
__device__ __forceinline__ void cluster_barrier() {
    __cluster_barrier_arrive();
    __cluster_barrier_wait();
}
template <class V>
__device__ __forceinline__ V* in_block_of_cluster(V* shared, unsigned rank) {
    return static_cast<V*>(__cluster_map_shared_rank(shared, rank));
}
#else
__device__ __forceinline__ unsigned cluster_blocks() { return 1; }
__device__ __forceinline__ unsigned cluster_rank() { return 0; }
__device__ __forceinline__ void cluster_barrier() {}
template <class V>
__device__ __forceinline__ V* in_block_of_cluster(V* shared, unsigned) {
    return shared;
}
#endif

// Stores a word of 16, 8, 4, 2 or 1 bytes in one access. In an unrolled loop the compiler would
// split the store of a struct.
template <class Word>
__device__ __forceinline__ void store_word(Word* target, Word word) {
    *target = word;
}
__device__ __forceinline__ void store_word(uint4* target, uint4 word) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(target)),
                 "r"(word.x), "r"(word.y), "r"(word.z), "r"(word.w));
}
__device__ __forceinline__ void store_word(uint2* target, uint2 word) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(target)),
                 "r"(word.x), "r"(word.y));
}

#endif

template <class V>
__device__ __forceinline__ V load_shared(const V* source) {
    watch::reads_shared(source, sizeof(V));
    return *source;
}
template <class V>
__device__ __forceinline__ void store_shared(V* target, const V& value) {
    watch::writes_shared(target, sizeof(V));
    *target = value;
}

}  // namespace rrfast::cuda
