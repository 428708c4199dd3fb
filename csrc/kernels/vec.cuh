// Vectors of elements, and how a grid walks over [B, N] tensors sample by sample.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "device.cuh"
#include "launch.h"

namespace rrfast::cuda {

// Elements a thread moves in one 16-byte access.
template <class T>
constexpr int kVectorWidth = 16 / sizeof(T);

template <class T, int Width>
struct alignas(sizeof(T) * Width) Vector {
    T element[Width];
};

// What no thread writes while the kernel runs. A whole vector is loaded as a built-in type, by an
// intrinsic: that stays one access, where one of a struct may come apart.
template <class T, int Width>
__device__ __forceinline__ Vector<T, Width> load(const T* __restrict__ source) {
    watch::reads_constant(source, sizeof(Vector<T, Width>));
    if constexpr (sizeof(Vector<T, Width>) == sizeof(uint4)) {
        return bit_cast<Vector<T, Width>>(__ldg(reinterpret_cast<const uint4*>(source)));
    }
    return *reinterpret_cast<const Vector<T, Width>*>(source);
}
// What this thread has stored itself.
template <class T, int Width>
__device__ __forceinline__ Vector<T, Width> load_own(const T* source) {
    watch::reads_own(source, sizeof(Vector<T, Width>));
    if constexpr (sizeof(Vector<T, Width>) == sizeof(uint4)) {
        return bit_cast<Vector<T, Width>>(load_uncached(reinterpret_cast<const uint4*>(source)));
    }
    return *reinterpret_cast<const Vector<T, Width>*>(source);
}
template <class T, int Width>
__device__ __forceinline__ void store(T* __restrict__ target, const Vector<T, Width>& vector) {
    *reinterpret_cast<Vector<T, Width>*>(target) = vector;
    watch::writes(target, sizeof(Vector<T, Width>));
}

template <class T>
bool is_aligned(const T* pointer, int width) {
    return reinterpret_cast<std::uintptr_t>(pointer) % (sizeof(T) * width) == 0;
}

// 64-bit division costs a hundred instructions, 32-bit a quarter of that; almost every index fits
// in 32 bits.
__device__ __forceinline__ index_t quotient(index_t a, index_t b) {
    return ((a | b) >> 32) == 0
               ? static_cast<index_t>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b))
               : a / b;
}

// Every block takes tiles of kThreads * kVectorsPerThread vectors that lie in one sample, so that
// the sample's step is read once and no element needs a division. Several vectors per thread keep
// enough loads in flight.
constexpr int kThreads = 256;
constexpr int kVectorsPerThread = 4;

struct Tiles {
    index_t per_sample;
    index_t total;

    template <int Width>
    static Tiles over(index_t samples, index_t elements) {
        constexpr index_t tile = static_cast<index_t>(kThreads) * kVectorsPerThread * Width;
        const index_t per_sample = (elements + tile - 1) / tile;
        return {per_sample, samples * per_sample};
    }
    unsigned blocks() const { return static_cast<unsigned>(total < INT32_MAX ? total : INT32_MAX); }
};

// Calls body(sample, offset) for every vector of this block's tiles; offset counts elements within
// the sample. Unrolled where the body is short.
template <int Width, int Unroll, class Body>
__device__ __forceinline__ void for_each_vector(const Tiles& tiles, index_t elements,
                                                const Body& body) {
    for (index_t tile = blockIdx.x; tile < tiles.total; tile += gridDim.x) {
        const index_t sample = quotient(tile, tiles.per_sample);
        const index_t first = (tile - sample * tiles.per_sample) * kThreads * kVectorsPerThread;
#pragma unroll Unroll
        for (int round = 0; round < kVectorsPerThread; ++round) {
            const index_t offset = (first + round * kThreads + threadIdx.x) * Width;
            if (offset < elements) {
                body(sample, offset);
            }
        }
    }
}

// The channel of consecutive elements of a sample, found by division once and by counting from
// there on.
template <class A>
class ChannelCursor {
public:
    __device__ __forceinline__ ChannelCursor(const Channels<A>& channels, index_t offset)
        : channels_(channels) {
        const index_t row = quotient(offset, channels.inner);
        inner_ = offset - row * channels.inner;
        channel_ = row - quotient(row, channels.channels) * channels.channels;
    }
    __device__ __forceinline__ Channel<A> next() {
        const Channel<A> current = channels_.at(channel_);
        if (++inner_ == channels_.inner) {
            inner_ = 0;
            channel_ = channel_ + 1 == channels_.channels ? 0 : channel_ + 1;
        }
        return current;
    }

private:
    const Channels<A>& channels_;
    index_t inner_;
    index_t channel_;
};

// Calls body(sample, offset, next_channel) for every vector; next_channel() is the channel of its
// elements, one after the other. When one value serves all channels, which is the rule, it costs
// nothing.
template <int Width, class A, class Body>
__device__ __forceinline__ void for_each_vector_by_channel(const Tiles& tiles, index_t elements,
                                                           const Channels<A>& channels,
                                                           const Body& body) {
    if (channels.uniform()) {
        const Channel<A> channel = channels.at(0);
        for_each_vector<Width, kVectorsPerThread>(
            tiles, elements,
            [&](index_t sample, index_t offset) { body(sample, offset, [&] { return channel; }); });
    } else {
        for_each_vector<Width, 1>(tiles, elements, [&](index_t sample, index_t offset) {
            ChannelCursor<A> cursor(channels, offset);
            body(sample, offset, [&] { return cursor.next(); });
        });
    }
}

// Calls launch(Width), a compile-time constant: whole vectors if every sample of every tensor
// starts on a vector's boundary, single elements if not.
template <int Vector, class T, class Launch>
cudaError_t for_width(index_t elements, std::initializer_list<const T*> tensors,
                      const std::int8_t* direction, const Launch& launch) {
    bool vectors = elements % Vector == 0 && is_aligned(direction, Vector);
    for (const T* tensor : tensors) {
        vectors = vectors && is_aligned(tensor, Vector);
    }
    return vectors ? launch(std::integral_constant<int, Vector>{})
                   : launch(std::integral_constant<int, 1>{});
}

template <class T>
struct Type {
    using type = T;
};

// Calls visit(type, name) for every element type.
template <class Visit>
void for_each_type(const Visit& visit) {
    visit(Type<float>{}, "float");
    visit(Type<double>{}, "double");
    visit(Type<bfloat16>{}, "bfloat16");
    visit(Type<float16>{}, "float16");
}

// The instances of a kernel: each type, in vectors and element by element.
template <class Kernel>
KernelList instances(const std::string& name, const Kernel& kernel) {
    KernelList list;
    for_each_type([&](auto type, const std::string& type_name) {
        constexpr int vector = kVectorWidth<typename decltype(type)::type>;
        const auto add = [&](auto width) {
            list.push_back(
                {name + "<" + type_name + ", " + std::to_string(width) + ">", kernel(type, width)});
        };
        add(std::integral_constant<int, vector>{});
        add(std::integral_constant<int, 1>{});
    });
    return list;
}

}  // namespace rrfast::cuda
