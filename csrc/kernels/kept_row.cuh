// Rows that stay with their threads. A row that is looked at several times comes from memory once:
// every thread copies its vectors into places of the block's memory that no other thread looks at,
// so that there is no barrier. The copies pass no register, and so all of a row is under way at
// once, however long it is.
#pragma once

#include "row_reduce.cuh"

namespace rrfast::cuda {

// A row of T in places where each of its elements may be replaced by an accumulator. A place is a
// vector of them, in pieces that one access moves; those of the threads of a warp lie side by side.
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
    // What was fetched.
    __device__ __forceinline__ Word<T, Width> word_at(RowIndex k) const {
        const Piece held = load_shared(piece(k, 0));
        Word<T, Width> word;
        memcpy(&word, &held, sizeof(word));
        return word;
    }
    // What takes its place.
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

// How a row of several tensors is divided among blocks of a cluster, and whether they keep it.
struct Parts {
    RowIndex elements;  // of a block
    bool kept;
};

// The launch of a kernel that looks at rows of `element` bytes for an element again and again. A
// long row has a cluster of blocks: where a thread would have more than four vectors of it, or a
// processor could not keep the parts of two blocks. Not where rows are few: a row's bits must not
// depend on the others.
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

// A word of a row that is kept, or of one in the device's memory, as the pointer says.
template <class T, int Width>
__device__ __forceinline__ Word<T, Width> load_part(const T* source) {
    watch::reads_constant_or_shared(source, sizeof(Word<T, Width>));
    return *reinterpret_cast<const Word<T, Width>*>(source);
}

}  // namespace rrfast::cuda
