// Rows in shared memory, for kernels that read a row several times: it is loaded from global memory
// once. Each thread copies its own vectors, which no other thread reads, so no barrier is needed.
// The copies need no registers, so that all loads of a row are in flight at once, whatever its
// length.
#pragma once

#include "row_reduce.cuh"

namespace rrfast::cuda {

// A row of T with room to replace each element by an accumulator. A vector of accumulators is
// stored in pieces of one access each; the pieces of neighbouring threads lie next to each other.
template <class T, int Width>
class KeptRow {
    using A = accumulate_t<T>;
    static constexpr int kBytes = sizeof(Vector<A, Width>);
    static constexpr int kPieces = kBytes > 16 ? kBytes / 16 : 1;
    using Piece = typename word<kBytes / kPieces>::type;

public:
    static std::size_t bytes(index_t classes, const Grid& grid) {
        return static_cast<std::size_t>(classes / Width) * kBytes * grid.threads.y;
    }

    __device__ __forceinline__ explicit KeptRow(index_t classes)
        : vectors_(static_cast<RowIndex>(classes / Width)),
          first_(dynamic_shared<Piece>() + threadIdx.y * kPieces * vectors_) {}

    __device__ __forceinline__ void fetch(const T* row, const Span<Width, false>& span) const {
        for_each_class<1>(
            span, [](auto, RowIndex) { return 0; },
            [&](auto, RowIndex k, int) {
                copy_to_shared(piece(k, 0), reinterpret_cast<const Word<T, Width>*>(row + k));
            });
        wait_for_copies();
    }
    // The fetched elements.
    __device__ __forceinline__ Word<T, Width> word_at(RowIndex k) const {
        const Piece held = load_shared(piece(k, 0));
        Word<T, Width> word;
        memcpy(&word, &held, sizeof(word));
        return word;
    }
    // Replaces a vector by accumulators.
    __device__ __forceinline__ void put(RowIndex k, const Vector<A, Width>& vector) const {
        Piece pieces[kPieces];
        memcpy(pieces, &vector, kBytes);
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
            store_shared(piece(k, p), pieces[p]);
        }
    }
    __device__ __forceinline__ Vector<A, Width> get(RowIndex k) const {
        Piece pieces[kPieces];
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
            pieces[p] = load_shared(piece(k, p));
        }
        Vector<A, Width> vector;
        memcpy(&vector, pieces, kBytes);
        return vector;
    }

private:
    __device__ __forceinline__ Piece* piece(RowIndex k, int p) const {
        return first_ + (p * vectors_ + k / Width);
    }

    RowIndex vectors_;
    Piece* first_;
};

// How the blocks of a cluster divide a row, and whether they keep it in shared memory.
struct Parts {
    RowIndex elements;  // per block
    bool kept;
};

// The launch of a kernel that reads rows again and again, `element` bytes per element over all its
// tensors. A row gets a cluster of blocks if a thread would have more than four vectors of it, or
// if an SM could not keep the parts of two blocks. The number of rows does not matter, because the
// bits of a row must not depend on the others.
inline Grid parted_grid(index_t rows, index_t elements, int width, std::size_t element,
                        Parts& parts) {
    Grid grid = row_grid(rows, elements);
    const Device device = Device::current();
    const auto part = [&] { return (elements / width + grid.cluster - 1) / grid.cluster * width; };
    const auto bytes = [&] { return part() * element * grid.threads.y; };
    while (grid.threads.x == kRowThreads && grid.cluster < device.cluster &&
           (part() > 4 * kRowThreads * width || bytes() > device.shared)) {
        grid.cluster *= 2;
    }
    parts = {static_cast<RowIndex>(part()), bytes() <= device.shared_alone};
    grid.shared = parts.kept ? bytes() : 0;
    const index_t most = INT32_MAX / grid.cluster, rows_at_once = grid.blocks.x;
    grid.blocks.x = static_cast<unsigned>(rows_at_once < most ? rows_at_once : most) * grid.cluster;
    return grid;
}

// Loads a word of a row from shared or global memory, whichever the pointer is in.
template <class T, int Width>
__device__ __forceinline__ Word<T, Width> load_part(const T* source) {
    watch::reads_constant_or_shared(source, sizeof(Word<T, Width>));
    return *reinterpret_cast<const Word<T, Width>*>(source);
}

}  // namespace rrfast::cuda
