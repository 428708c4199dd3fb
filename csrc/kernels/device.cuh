// What the kernels say that only a GPU's compiler understands, in one place: how one is launched,
// how a thread reaches the memory of its block, an instruction by its name. All the rest is C++,
// which python_tests/emulation runs on a CPU as it stands. There RRFAST_EMULATED is defined, and
// every access to memory is watched; on a GPU the watch is empty functions.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace rrfast::cuda {

// Enqueues a kernel; returns the status of this launch, and leaves none behind for a later call.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, cudaStream_t stream,
                   Arguments&&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = blocks;
    config.blockDim = threads;
    config.stream = stream;
    const cudaError_t status =
        cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
    if (status != cudaSuccess) {
        cudaGetLastError();
    }
    return status;
}

#ifdef RRFAST_EMULATED

namespace watch = ::emulated;

template <class V, int Count>
V* shared_array() {
    static const char site = 0;  // one of every instance: the array's name
    return static_cast<V*>(::emulated::shared_memory(&site, Count * sizeof(V)));
}

inline uint4 load_uncached(const uint4* source) { return *source; }
template <class Word>
void store_word(Word* target, Word word) {
    *target = word;
}

#else

namespace watch {

__device__ __forceinline__ void reads_constant(const void*, std::size_t) {}
__device__ __forceinline__ void reads_own(const void*, std::size_t) {}
__device__ __forceinline__ void writes(const void*, std::size_t) {}
__device__ __forceinline__ void reads_shared(const void*, std::size_t) {}
__device__ __forceinline__ void writes_shared(const void*, std::size_t) {}

}  // namespace watch

// An array of the block, uninitialised.
template <class V, int Count>
__device__ __forceinline__ V* shared_array() {
    __shared__ V array[Count];
    return array;
}

// Sees the kernel's own stores, which a load through the read-only cache may not. Intrinsics do not
// tell the compiler to keep the order of stores and loads.
__device__ __forceinline__ uint4 load_uncached(const uint4* source) {
    uint4 words;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                 : "l"(__cvta_generic_to_global(source))
                 : "memory");
    return words;
}

// A word of 16, 8, 4, 2 or 1 bytes in one access: the compiler splits the store of a struct where
// it sees it in pieces, in a loop that is unrolled.
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
