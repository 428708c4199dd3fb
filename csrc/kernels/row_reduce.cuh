// Reductions over the rows of [B, K] logits. A row belongs to a warp, or to a whole block when it
// is long; either way the threads of a row walk over it with the same stride, and a reduction
// leaves its result with all of them.
#pragma once

#include "vec.cuh"

namespace rrfast::cuda {

constexpr int kWarp = 32;
constexpr int kRowThreads =
    512;  // threads of a block: all on one row, or a warp on each of several
constexpr index_t kWarpRowLimit = 1024;  // longest row that is left to a warp

// The launch of a row kernel; blockDim = (threads of a row, rows of a block).
struct RowGrid {
    dim3 blocks;
    dim3 threads;

    RowGrid(index_t rows, index_t classes) {
        const unsigned per_row = classes <= kWarpRowLimit ? kWarp : kRowThreads;
        const unsigned per_block = classes <= kWarpRowLimit ? 4 : 1;
        const index_t count = (rows + per_block - 1) / per_block;
        blocks = dim3(static_cast<unsigned>(count < INT32_MAX ? count : INT32_MAX));
        threads = dim3(per_row, per_block);
    }
};

// Calls body(row) for every row of this group of threads.
template <class Body>
__device__ __forceinline__ void for_each_row(index_t rows, const Body& body) {
    const index_t stride = static_cast<index_t>(gridDim.x) * blockDim.y;
    for (index_t row = static_cast<index_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < rows;
         row += stride) {
        body(row);
    }
}

// Calls body(k) for every k < classes that is this thread's: first of each vector of Width
// elements.
template <int Width, class Body>
__device__ __forceinline__ void for_each_class(index_t classes, const Body& body) {
#pragma unroll 1
    for (index_t k = static_cast<index_t>(threadIdx.x) * Width; k < classes;
         k += static_cast<index_t>(blockDim.x) * Width) {
        body(k);
    }
}

template <class V>
__device__ __forceinline__ V shuffle_xor(V value, int mask) {
    static_assert(sizeof(V) % sizeof(int) == 0, "shuffled in words of four bytes");
    constexpr int words = sizeof(V) / sizeof(int);
    int word[words];
    memcpy(word, &value, sizeof(V));
#pragma unroll
    for (int w = 0; w < words; ++w) {
        word[w] = __shfl_xor_sync(0xffffffffu, word[w], mask);
    }
    memcpy(&value, word, sizeof(V));
    return value;
}

template <class V, class Combine>
__device__ __forceinline__ V warp_reduce(V value, const Combine& combine) {
#pragma unroll
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
        value = combine(value, shuffle_xor(value, mask));
    }
    return value;
}

// The same bits in every thread of the row: the xor tree is symmetric and `combine` commutative.
template <class V, class Combine>
__device__ __forceinline__ V row_reduce(V value, const Combine& combine) {
    value = warp_reduce(value, combine);
    if (blockDim.x > kWarp) {
        constexpr int warps = kRowThreads / kWarp;
        V* partial = shared_array<V, warps>();
        __syncthreads();  // the previous reduction's readers are done
        if (threadIdx.x % kWarp == 0) {
            store_shared(&partial[threadIdx.x / kWarp], value);
        }
        __syncthreads();
        value = load_shared(&partial[threadIdx.x % warps]);
#pragma unroll
        for (int mask = warps / 2; mask > 0; mask /= 2) {
            value = combine(value, shuffle_xor(value, mask));
        }
    }
    return value;
}

// The classes of a row that are this thread's come in order, and it counts them. Their number among
// all of the row, or `none`:
template <int Width, class A>
__device__ __forceinline__ Candidate<A> in_row(const Candidate<A, std::uint32_t>& own,
                                               const Candidate<A>& none = no_candidate<A>()) {
    if (own.index == kNoIndex<std::uint32_t>) {
        return none;
    }
    const index_t vector = threadIdx.x + static_cast<index_t>(own.index / Width) * blockDim.x;
    return {own.value, vector * Width + own.index % Width};
}

// Pushes every class of the row that is this thread's.
template <int Width, class T, class Best>
__device__ __forceinline__ void push_classes(Best& best, const T* __restrict__ row,
                                             index_t classes) {
    std::uint32_t count = 0;
    for_each_class<Width>(classes, [&](index_t k) {
        const auto vector = load<T, Width>(row + k);
#pragma unroll
        for (int e = 0; e < Width; ++e) {
            push(best, {widen(vector.element[e]), count + e});
        }
        count += Width;
    });
    settle(best, count);
}

// The largest logit of a row and where it first stands.
template <int Width, class T>
__device__ __forceinline__ Candidate<accumulate_t<T>> row_argmax(const T* __restrict__ row,
                                                                 index_t classes) {
    using A = accumulate_t<T>;
    auto best = no_candidate<A, std::uint32_t>();
    push_classes<Width>(best, row, classes);
    return row_reduce(in_row<Width>(best),
                      [](const auto& a, const auto& b) { return either(leads(b, a), b, a); });
}

// The two best classes of a row.
template <int Width, class T>
__device__ __forceinline__ Top2<accumulate_t<T>> row_top2(const T* __restrict__ row,
                                                          index_t classes) {
    using A = accumulate_t<T>;
    auto top = empty_top2<A, std::uint32_t>();
    push_classes<Width>(top, row, classes);
    return row_reduce(Top2<A>{in_row<Width>(top.first), in_row<Width>(top.second)},
                      [](const auto& a, const auto& b) { return combine(a, b); });
}

}  // namespace rrfast::cuda
