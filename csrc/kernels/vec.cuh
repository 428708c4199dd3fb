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

// The built-in type of so many bytes. A vector moves as one: that stays one access, where one of a
// struct may come apart.
template <std::size_t Bytes>
struct word;
template <>
struct word<1> {
    using type = unsigned char;
};
template <>
struct word<2> {
    using type = unsigned short;
};
template <>
struct word<4> {
    using type = unsigned;
};
template <>
struct word<8> {
    using type = uint2;
};
template <>
struct word<16> {
    using type = uint4;
};

template <class T, int Width>
using Word = typename word<sizeof(Vector<T, Width>)>::type;

// What no thread writes while the kernel runs. A vector that waits for its turn waits as a word:
// its elements would be taken apart when it comes, into a register each.
template <class T, int Width>
__device__ __forceinline__ Word<T, Width> load_word(const T* __restrict__ source) {
    watch::reads_constant(source, sizeof(Word<T, Width>));
    return __ldg(reinterpret_cast<const Word<T, Width>*>(source));
}
template <class T, int Width>
__device__ __forceinline__ Vector<T, Width> load(const T* __restrict__ source) {
    return bit_cast<Vector<T, Width>>(load_word<T, Width>(source));
}
template <class T, int Width>
__device__ __forceinline__ void store(T* __restrict__ target, const Vector<T, Width>& vector) {
    store_word(reinterpret_cast<Word<T, Width>*>(target), bit_cast<Word<T, Width>>(vector));
    watch::writes(target, sizeof(vector));
}

// Rounded to storage, two at a time where that is one instruction.
template <class T, int Width>
__device__ __forceinline__ Vector<T, Width> narrowed(const accumulate_t<T> (&value)[Width]) {
    Vector<T, Width> result;
    if constexpr (sizeof(T) == 2 && Width % 2 == 0) {
#ifdef __CUDA_ARCH__
        std::uint32_t pair[Width / 2];
#pragma unroll
        for (int p = 0; p < Width / 2; ++p) {
            pair[p] = narrow<T>::pair(value[2 * p], value[2 * p + 1]);
        }
        memcpy(&result, pair, sizeof(result));
#endif
    } else {
#pragma unroll
        for (int e = 0; e < Width; ++e) {
            result.element[e] = narrow<T>::from(value[e]);
        }
    }
    return result;
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

// Every block takes tiles of kThreads * kRounds vectors that lie in one part of one sample, so that
// what belongs to a sample or to a channel is read once and no element needs a division. A part is
// a channel's plane, where channels differ and planes are large enough; else it is the sample.
constexpr int kThreads = 256;
constexpr int kRounds = 4;

struct Tiles {
    index_t part;      // elements of it
    index_t parts;     // of a sample
    index_t per_part;  // tiles
    index_t total;     // tiles of the batch
    bool one_channel;  // in every part

    template <int Width, class A>
    static Tiles over(index_t samples, index_t elements, const Channels<A>& channels) {
        constexpr index_t round = static_cast<index_t>(kThreads) * Width, tile = round * kRounds;
        const bool planes =
            !channels.uniform() && channels.inner >= round && channels.inner % Width == 0;
        const index_t part = planes ? channels.inner : elements, parts = elements / part;
        const index_t per_part = (part + tile - 1) / tile;
        return {part, parts, per_part, samples * parts * per_part, planes || channels.uniform()};
    }
    unsigned blocks() const { return static_cast<unsigned>(total < INT32_MAX ? total : INT32_MAX); }
};

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

// Calls finish(at, loaded, of_sample, next_channel) for every vector of the batch, with what
// load(at) and begin(sample) give; `at` counts elements of the batch, next_channel() is the channel
// of its elements, one after the other. The loads of Ahead vectors are under way before the first
// is finished: a thread that waits for each leaves the memory idle for most of the time.
template <int Width, int Ahead, class A, class Begin, class Load, class Finish>
__device__ __forceinline__ void for_each_vector(const Tiles& tiles, index_t elements,
                                                const Channels<A>& channels, const Begin& begin,
                                                const Load& load, const Finish& finish) {
    static_assert(kRounds % Ahead == 0, "every round is in one group of loads");
    constexpr int round = kThreads * Width;
    for (index_t tile = blockIdx.x; tile < tiles.total; tile += gridDim.x) {
        const index_t part = quotient(tile, tiles.per_part);
        const index_t sample = tiles.parts == 1 ? part : quotient(part, tiles.parts);
        const index_t channel = part - sample * tiles.parts;
        const index_t offset = (tile - part * tiles.per_part) * kRounds * round;
        const index_t corner = sample * elements + channel * tiles.part + offset;
        const index_t rest = tiles.part - offset;
        const int count = rest < kRounds * round ? static_cast<int>(rest) : kRounds * round;
        const auto of_sample = begin(sample);
        const auto run = [&](auto group, const auto& channels_from) {
            constexpr int ahead = decltype(group)::value;
#pragma unroll 1
            for (int first = threadIdx.x * Width; first < count; first += ahead * round) {
                const index_t own = corner + first;
                decltype(load(own)) loaded[ahead];
#pragma unroll
                for (int a = 0; a < ahead; ++a) {
                    if (first + a * round < count) {
                        loaded[a] = load(own + a * round);
                    }
                }
#pragma unroll
                for (int a = 0; a < ahead; ++a) {
                    if (first + a * round < count) {
                        finish(own + a * round, loaded[a], of_sample,
                               channels_from(offset + first + a * round));
                    }
                }
            }
        };
        if (tiles.one_channel) {
            const Channel<A> one = channels.at(channel);
            run(std::integral_constant<int, Ahead>{}, [&](index_t) { return [&] { return one; }; });
        } else {
            run(std::integral_constant<int, 1>{}, [&](index_t offset) {
                return [cursor = ChannelCursor<A>(channels, offset)]() mutable {
                    return cursor.next();
                };
            });
        }
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
