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

    // Until the next wait_for_copies the vectors of this thread are on their way.
    __device__ __forceinline__ void fetch(const T* row, index_t classes) const {
        const index_t stride = static_cast<index_t>(blockDim.x) * Width;
        for (index_t k = static_cast<index_t>(threadIdx.x) * Width; k < classes; k += stride) {
            copy_to_shared(piece(k, 0), reinterpret_cast<const Word<T, Width>*>(row + k));
        }
    }
    // What was fetched.
    __device__ __forceinline__ Word<T, Width> word_at(index_t k) const {
        const Piece held = load_shared(piece(k, 0));
        Word<T, Width> word;
        memcpy(&word, &held, sizeof(word));
        return word;
    }
    // What takes its place.
    __device__ __forceinline__ void put(index_t k, const Vector<A, Width>& vector) const {
        Piece pieces[kPieces];
        memcpy(pieces, &vector, kBytes);
#pragma unroll
        for (int p = 0; p < kPieces; ++p) {
            store_shared(piece(k, p), pieces[p]);
        }
    }
    __device__ __forceinline__ Vector<A, Width> get(index_t k) const {
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
    __device__ __forceinline__ Piece* piece(index_t k, int p) const {
        return first_ + (p * vectors_ + static_cast<RowIndex>(k) / Width);
    }

    RowIndex vectors_;
    Piece* first_;
};

}  // namespace rrfast::cuda
