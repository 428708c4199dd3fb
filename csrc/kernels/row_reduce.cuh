// Reductions over the rows of [B, K] logits. Depending on its length, a row is processed by a
// quarter of a warp, by a warp, or by a small or a large block. The threads of a row walk over it
// with the same stride, and all of them get the result of a reduction.
//
// Two things decide the speed. The bytes in flight: a thread loads kAhead vectors before it uses
// the first. The shuffles per row: no row has more threads than it has work for, and classes have
// 32-bit indices.
#pragma once

#include "../math/top2.h"
#include "vec.cuh"

namespace rrfast::cuda {

constexpr int kWarp = 32;
constexpr int kLanes = 8;  // threads of a short row
constexpr int kFewThreads =
    128;  // threads of a block that has several rows, or one of medium length
constexpr int kRowThreads = 512;               // of a long one
constexpr index_t kWarpRowLimit = 1024;        // longest row for a warp
constexpr index_t kFewThreadsRowLimit = 8192;  // for kFewThreads
template <class T>
constexpr int kAhead =
    sizeof(T) == sizeof(double) ? 2 : 4;  // float64 is bound by arithmetic, not by memory
constexpr int kShortRow = 4;              // vectors per thread

// The index of a class in its row; a row has fewer than 2^31.
using RowIndex = std::uint32_t;

// The launch of a row kernel; blockDim = (threads per row, rows per block). A row is short if
// kLanes threads need at most kShortRow vectors of `width` elements each. Images, width 0, never
// count as short, because those in one warp need different numbers of iterations; nor do they get
// kFewThreads, because a batch has few of them.
inline Grid row_grid(index_t rows, index_t classes, int width = 0) {
    const index_t few = width == 0 ? 0 : kFewThreadsRowLimit;
    const unsigned per_row = classes <= kLanes * kShortRow * width ? kLanes
                             : classes <= kWarpRowLimit            ? kWarp
                             : classes <= few                      ? kFewThreads
                                                                   : kRowThreads;
    const unsigned per_block = per_row > kWarp ? 1 : kFewThreads / per_row;
    const index_t count = (rows + per_block - 1) / per_block;
    return {static_cast<unsigned>(count < INT32_MAX ? count : INT32_MAX), dim3(per_row, per_block)};
}

// Calls body(row, classes, writes) for every row of this group of threads, or of `blocks` blocks.
// All threads of a block must take part, because they shuffle together: those without a row get the
// last row with 0 classes, and must not write.
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

// A row as aligned vectors. The first vector begins `behind` elements before the row: 0 if every
// row begins on a vector's boundary, else the vectors at both ends may be partial. The index k of a
// partial vector's first element may lie outside the row, as -1 does, in 32 bits.
template <int Width, bool Ragged>
class Span {
public:
    template <class T>
    __device__ __forceinline__ Span(const T* row, RowIndex classes)
        : classes_(classes),
          behind_(Ragged ? static_cast<RowIndex>(reinterpret_cast<std::uintptr_t>(row) / sizeof(T) %
                                                 Width)
                         : 0) {}

    __device__ __forceinline__ RowIndex classes() const { return classes_; }
    __device__ __forceinline__ bool has(RowIndex k) const { return !Ragged || k < classes_; }
    // The number of a vector in its row, and the class of its element e.
    __device__ __forceinline__ RowIndex vector_of(RowIndex k) const {
        return (k + behind_) / Width;
    }
    __device__ __forceinline__ RowIndex class_of(RowIndex vector, RowIndex e) const {
        return vector * Width + e - behind_;
    }

private:
    RowIndex classes_;
    RowIndex behind_;
};

// Calls take(edge, k, load(edge, k)) for every vector of this thread, in order. k is its first
// class; edge, a constant, says whether the vector may be partial. The loads of Ahead vectors are
// in flight together. Classes before `begin`, which is a vector's boundary, are skipped.
template <int Ahead, int Width, bool Ragged, class Load, class Take>
__device__ __forceinline__ void for_each_class(const Span<Width, Ragged>& span, const Load& load,
                                               const Take& take, RowIndex begin = 0) {
    const RowIndex stride = blockDim.x * Width;  // a power of two
    const RowIndex own = begin + ((threadIdx.x * Width - begin) & (stride - 1));
    const auto is_whole = [&](RowIndex k) { return k + (Ragged ? Width - 1 : 0) < span.classes(); };
    constexpr std::false_type whole{};
    RowIndex next = span.class_of(0, own);
    const auto take_edge = [&](RowIndex k) {
        constexpr std::true_type edge{};
        take(edge, k, load(edge, k));
    };
    if (Ragged && static_cast<std::int32_t>(next) < 0) {
        take_edge(next);
        next += stride;
    }
#pragma unroll 1
    for (; is_whole(next); next += Ahead * stride) {
        decltype(load(whole, next)) loaded[Ahead];
#pragma unroll
        for (int a = 0; a < Ahead; ++a) {
            if (is_whole(next + a * stride)) {
                loaded[a] = load(whole, next + a * stride);
            }
        }
#pragma unroll
        for (int a = 0; a < Ahead; ++a) {
            if (is_whole(next + a * stride)) {
                take(whole, next + a * stride, loaded[a]);
            }
        }
    }
    if constexpr (Ragged) {
        const RowIndex last = span.vector_of(span.classes() - 1), k = span.class_of(last, 0);
        if (static_cast<std::int32_t>(k) >= 0 && k < span.classes() && !is_whole(k) &&
            last % blockDim.x == threadIdx.x) {
            take_edge(k);
        }
    }
}

// Loads a vector of logits; elements outside the row are masked.
template <class T, int Width, bool Ragged, class Edge>
__device__ __forceinline__ Word<T, Width> load_logits(Edge, const T* row,
                                                      const Span<Width, Ragged>& span, RowIndex k) {
    if constexpr (Edge::value) {
        Vector<T, Width> vector;
#pragma unroll
        for (int e = 0; e < Width; ++e) {
            const RowIndex i = k + e;
            vector.element[e] = span.has(i) ? bit_cast<T>(load_word<T, 1>(row + i))
                                            : narrow<T>::from(-infinity<accumulate_t<T>>());
        }
        return bit_cast<Word<T, Width>>(vector);
    } else {
        return load_word<T, Width>(row + k);
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

// Reduces over groups of Last lanes; groups of First lanes already have one value each.
template <int First, int Last, class V, class Combine>
__device__ __forceinline__ V reduce_lanes(V value, const Combine& combine) {
#pragma unroll
    for (int mask = First; mask < Last; mask *= 2) {
        value = combine(value, shuffle_xor(value, mask));
    }
    return value;
}

// A sum and its rounding error (Knuth). A thread of a large image adds hundreds of values that may
// be of equal size, and double precision is slow on most GPUs. Images in double precision have
// enough digits without it.
template <class A>
struct Sum {
    A value;
    A lost;

    static __device__ __forceinline__ Sum of(A value) { return {value, A(0)}; }

    // The error of an infinite sum is NaN, and is left out.
    __device__ __forceinline__ A rounded() const { return is_nan(lost) ? value : value + lost; }
};
template <class A>
__device__ __forceinline__ Sum<A> operator+(const Sum<A>& a, const Sum<A>& b) {
    const A value = a.value + b.value;
    const A of_b = value - a.value;
    const A error = (a.value - (value - of_b)) + (b.value - of_b);
    return {value, (a.lost + b.lost) + error};
}
template <>
struct Sum<double> {
    double value;

    static __device__ __forceinline__ Sum of(double value) { return {value}; }
    __device__ __forceinline__ double rounded() const { return value; }
};
__device__ __forceinline__ Sum<double> operator+(const Sum<double>& a, const Sum<double>& b) {
    return {a.value + b.value};
}

// The same bits in every thread of the row: the xor tree is symmetric and `combine` commutative.
template <class V, class Combine>
__device__ __forceinline__ V row_reduce(V value, const Combine& combine) {
    value = reduce_lanes<1, kLanes>(value, combine);
    if (blockDim.x > kLanes) {
        value = reduce_lanes<kLanes, kWarp>(value, combine);
    }
    if (blockDim.x > kWarp) {
        V* partial = shared_array<V, kRowThreads / kWarp>();
        __syncthreads();  // all have read the result of the previous reduction
        if (threadIdx.x % kWarp == 0) {
            store_shared(&partial[threadIdx.x / kWarp], value);
        }
        __syncthreads();
        value = load_shared(&partial[threadIdx.x & (blockDim.x / kWarp - 1)]);
#pragma unroll 1
        for (unsigned mask = 1; mask * kWarp < blockDim.x; mask *= 2) {
            value = combine(value, shuffle_xor(value, mask));
        }
    }
    return value;
}

// The same over the blocks of a cluster; all threads of a block already have the same value.
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
        cluster_barrier();  // all have read: a block may now write again, or exit
    }
    return value;
}

// A thread visits its classes in order and counts them. This turns the count of a class into its
// index in the row; no class becomes `none`.
template <int Width, bool Ragged, class A>
__device__ __forceinline__ Candidate<A, RowIndex> in_row(
    const Span<Width, Ragged>& span, const Candidate<A, RowIndex>& own,
    const Candidate<A, RowIndex>& none = no_candidate<A, RowIndex>()) {
    if (own.index == kNoIndex<RowIndex>) {
        return none;
    }
    const RowIndex vector = threadIdx.x + own.index / Width * blockDim.x;
    return {own.value, span.class_of(vector, own.index % Width)};
}
template <int Width, bool Ragged, class A>
__device__ __forceinline__ Top2<A, RowIndex> in_row(const Span<Width, Ragged>& span,
                                                    const Top2<A, RowIndex>& own) {
    return {in_row(span, own.first), in_row(span, own.second)};
}

// Calls take({logit, count}) for every class of this thread; load(edge, k) gives its vectors.
template <class T, int Width, bool Ragged, class Load, class Take>
__device__ __forceinline__ void for_each_logit(const Span<Width, Ragged>& span, const Load& load,
                                               const Take& take) {
    using A = accumulate_t<T>;
    RowIndex count = 0;
    for_each_class<kAhead<T>>(span, load, [&](auto, RowIndex, const Word<T, Width>& word) {
        const auto vector = bit_cast<Vector<T, Width>>(word);
#pragma unroll
        for (int e = 0; e < Width; ++e) {
            take(Candidate<A, RowIndex>{widen(vector.element[e]), count + e});
        }
        count += Width;
    });
}

// The largest logit of a row and its lowest index.
template <class T, int Width, bool Ragged>
__device__ __forceinline__ Candidate<accumulate_t<T>, RowIndex> row_argmax(
    const T* row, const Span<Width, Ragged>& span) {
    auto best = no_candidate<accumulate_t<T>, RowIndex>();
    for_each_logit<T>(
        span, [&](auto edge, RowIndex k) { return load_logits(edge, row, span, k); },
        [&](const auto& next) { push(best, next); });
    best = row_reduce(in_row(span, best),
                      [](const auto& a, const auto& b) { return either(leads(b, a), b, a); });
    settle(best, span.classes());
    return best;
}

// The two best classes of a row; load(edge, k) gives its vectors.
template <class T, int Width, bool Ragged, class Load>
__device__ __forceinline__ Top2<accumulate_t<T>, RowIndex> row_top2(const Span<Width, Ragged>& span,
                                                                    const Load& load) {
    auto top = empty_top2<accumulate_t<T>, RowIndex>();
    for_each_logit<T>(span, load, [&](const auto& next) { push(top, next); });
    top = row_reduce(in_row(span, top), [](const auto& a, const auto& b) { return combine(a, b); });
    settle(top, span.classes());
    return top;
}

}  // namespace rrfast::cuda
