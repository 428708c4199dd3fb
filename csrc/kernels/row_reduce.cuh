// Reductions over the rows of [B, K] logits. A row belongs to a quarter of a warp, to a warp, or to
// a whole block, as it is short or long; the threads of a row walk over it with the same stride,
// and a reduction leaves its result with all of them.
//
// What decides the speed: how many bytes are on their way from memory at any time, for which a
// thread asks for kAhead vectors before it looks at the first; and how many shuffles a row costs,
// for which short rows have few threads and classes have indices of 32 bits.
#pragma once

#include "vec.cuh"

namespace rrfast::cuda {

constexpr int kWarp = 32;
constexpr int kLanes = 8;         // threads of a short row
constexpr int kRowThreads = 512;  // threads of a block: all on one row, or several rows' on each
constexpr index_t kWarpRowLimit = 1024;  // longest row that is left to a warp
template <class T>
constexpr int kAhead =
    sizeof(T) == sizeof(double) ? 2 : 4;  // arithmetic bounds float64, not memory
constexpr int kShortRow = 4;              // vectors of a thread

// Of a class in its row, of which there are fewer than 2^31.
using RowIndex = std::uint32_t;

// The launch of a row kernel; blockDim = (threads of a row, rows of a block). A short row is one
// that kLanes threads take in kShortRow vectors of `width` elements each. There are none where rows
// take more or fewer turns than their neighbours in a warp: width 0.
inline Grid row_grid(index_t rows, index_t classes, int width = 0) {
    const unsigned per_row = classes <= kLanes * kShortRow * width ? kLanes
                             : classes <= kWarpRowLimit            ? kWarp
                                                                   : kRowThreads;
    const unsigned per_block = per_row == kRowThreads ? 1 : 4 * kWarp / per_row;
    const index_t count = (rows + per_block - 1) / per_block;
    return {static_cast<unsigned>(count < INT32_MAX ? count : INT32_MAX), dim3(per_row, per_block)};
}

// Calls body(row, classes, writes) for every row of this group of threads, or of `blocks` blocks.
// All threads of a block stay together, since they shuffle together: those that have no row any
// more name the last one, of no classes, and must not write.
template <class Body>
__device__ __forceinline__ void for_each_row(index_t rows, index_t classes, const Body& body,
                                             unsigned blocks = 1) {
    const index_t stride = static_cast<index_t>(gridDim.x / blocks) * blockDim.y;
    for (index_t first = static_cast<index_t>(blockIdx.x / blocks) * blockDim.y; first < rows;
         first += stride) {
        const index_t row = first + threadIdx.y;
        const bool writes = row < rows;
        body(writes ? row : rows - 1, writes ? static_cast<RowIndex>(classes) : 0, writes);
    }
}

// Calls take(k, loaded) for every vector of Width elements of the row that is this thread's, with
// what load(k) gives; k is its first class. The loads of Ahead vectors go out together. `begin`,
// where a vector begins, leaves out what comes before.
template <int Width, int Ahead, class Load, class Take>
__device__ __forceinline__ void for_each_class(RowIndex classes, const Load& load, const Take& take,
                                               RowIndex begin = 0) {
    const RowIndex stride = blockDim.x * Width;  // a power of two
    const RowIndex own = begin + ((threadIdx.x * Width - begin) & (stride - 1));
#pragma unroll 1
    for (RowIndex first = own; first < classes; first += Ahead * stride) {
        decltype(load(first)) loaded[Ahead];
#pragma unroll
        for (int a = 0; a < Ahead; ++a) {
            if (first + a * stride < classes) {
                loaded[a] = load(first + a * stride);
            }
        }
#pragma unroll
        for (int a = 0; a < Ahead; ++a) {
            if (first + a * stride < classes) {
                take(first + a * stride, loaded[a]);
            }
        }
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

// Over groups of Last lanes that begin with groups of First, of which each has one value already.
template <int First, int Last, class V, class Combine>
__device__ __forceinline__ V reduce_lanes(V value, const Combine& combine) {
#pragma unroll
    for (int mask = First; mask < Last; mask *= 2) {
        value = combine(value, shuffle_xor(value, mask));
    }
    return value;
}

// The same bits in every thread of the row: the xor tree is symmetric and `combine` commutative.
template <class V, class Combine>
__device__ __forceinline__ V row_reduce(V value, const Combine& combine) {
    value = reduce_lanes<1, kLanes>(value, combine);
    if (blockDim.x > kLanes) {
        value = reduce_lanes<kLanes, kWarp>(value, combine);
    }
    if (blockDim.x > kWarp) {
        constexpr int warps = kRowThreads / kWarp;
        V* partial = shared_array<V, warps>();
        __syncthreads();  // the previous reduction's readers are done
        if (threadIdx.x % kWarp == 0) {
            store_shared(&partial[threadIdx.x / kWarp], value);
        }
        __syncthreads();
        value = load_shared(&partial[threadIdx.x % warps]);
        value = reduce_lanes<1, warps>(value, combine);
    }
    return value;
}

// The same over the blocks of a cluster, of which each has one value already, in all its threads.
template <class V, class Combine>
__device__ __forceinline__ V cluster_reduce(V value, const Combine& combine) {
    const unsigned blocks = cluster_blocks();
    if (blocks > 1) {
        V* partial = shared_array<V, 1>();
        if (threadIdx.x == 0) {
            store_shared(partial, value);
        }
        cluster_barrier();
        value = load_shared(in_block_of_cluster(partial, 0));
#pragma unroll 1
        for (unsigned b = 1; b < blocks; ++b) {
            value = combine(value, load_shared(in_block_of_cluster(partial, b)));
        }
        cluster_barrier();  // this reduction's readers are done: a block may write, or leave
    }
    return value;
}

// The classes of a row that are this thread's come in order, and it counts them. Their number among
// all of the row, or `none`:
template <int Width, class A>
__device__ __forceinline__ Candidate<A, RowIndex> in_row(
    const Candidate<A, RowIndex>& own,
    const Candidate<A, RowIndex>& none = no_candidate<A, RowIndex>()) {
    if (own.index == kNoIndex<RowIndex>) {
        return none;
    }
    const RowIndex vector = threadIdx.x + own.index / Width * blockDim.x;
    return {own.value, vector * Width + own.index % Width};
}

template <int Width, class A>
__device__ __forceinline__ Top2<A, RowIndex> in_row(const Top2<A, RowIndex>& own) {
    return {in_row<Width>(own.first), in_row<Width>(own.second)};
}

// Calls take({logit, own index}) for every class of the row that is this thread's, with what
// load(k) gives. Returns how many there were.
template <class T, int Width, class Load, class Take>
__device__ __forceinline__ RowIndex for_each_logit(RowIndex classes, const Load& load,
                                                   const Take& take) {
    using A = accumulate_t<T>;
    RowIndex count = 0;
    for_each_class<Width, kAhead<T>>(classes, load, [&](RowIndex, const Word<T, Width>& word) {
        const auto vector = bit_cast<Vector<T, Width>>(word);
#pragma unroll
        for (int e = 0; e < Width; ++e) {
            take(Candidate<A, RowIndex>{widen(vector.element[e]), count + e});
        }
        count += Width;
    });
    return count;
}

// The largest logit of a row and where it first stands.
template <int Width, class T>
__device__ __forceinline__ Candidate<accumulate_t<T>, RowIndex> row_argmax(
    const T* __restrict__ row, RowIndex classes) {
    auto best = no_candidate<accumulate_t<T>, RowIndex>();
    const RowIndex count = for_each_logit<T, Width>(
        classes, [&](RowIndex k) { return load_word<T, Width>(row + k); },
        [&](const auto& next) { push(best, next); });
    settle(best, count);
    return row_reduce(in_row<Width>(best),
                      [](const auto& a, const auto& b) { return either(leads(b, a), b, a); });
}

// The two best classes of a row, of which load(k) gives a vector.
template <class T, int Width, class Load>
__device__ __forceinline__ Top2<accumulate_t<T>, RowIndex> row_top2(RowIndex classes,
                                                                    const Load& load) {
    auto top = empty_top2<accumulate_t<T>, RowIndex>();
    const RowIndex count =
        for_each_logit<T, Width>(classes, load, [&](const auto& next) { push(top, next); });
    settle(top, count);
    return row_reduce(in_row<Width>(top),
                      [](const auto& a, const auto& b) { return combine(a, b); });
}

}  // namespace rrfast::cuda
