// Vectors of elements, and how a grid walks over [B, N] tensors sample by sample. Kernels over
// elements read each once and write each once, so that memory alone decides: tensors move 16 bytes
// at a time, and a thread has several such loads under way before it looks at the first.
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

// 64-bit division costs a hundred instructions, 32-bit a quarter of that; almost every index fits
// in 32 bits.
__device__ __forceinline__ index_t quotient(index_t a, index_t b) {
    return ((a | b) >> 32) == 0
               ? static_cast<index_t>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b))
               : a / b;
}

// How a kernel goes over its tensors: by vectors of `width` elements. Samples begin on a vector's
// boundary; if ragged, those of all tensors as far behind one. Then the first and the last vector
// of a sample may be parts of vectors only, and are taken element by element.
template <int Width, bool Ragged>
struct Access {
    static constexpr int width = Width;
    static constexpr bool ragged = Ragged;
};
// Not for two elements of float64, which arithmetic bounds, and not memory.
template <int Width>
constexpr bool kRagged = Width > 2;
template <int Width, class T>
int behind_boundary(const T* pointer) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(pointer) / sizeof(T) % Width);
}

// Every block takes tiles of kThreads * kRounds vectors that lie in one part of one sample, so that
// what belongs to a sample or to a channel is read once and no element needs a division. A part is
// a channel's plane, where channels differ and planes are large enough; else it is the sample.
// Where channels are few and next to each other, a thread knows those of its elements. What is
// left, small planes and many channels next to each other, goes element by element.
constexpr int kThreads = 256;
constexpr int kRounds = 4;

struct Tiles {
    index_t part;      // elements of it
    index_t parts;     // of a sample
    index_t per_part;  // tiles
    index_t total;     // tiles of the batch
    bool one_channel;  // in every part
    int behind;        // elements from a vector's boundary to the first sample
    int period;        // after so many elements the channels come again; 0: not soon
    int round;         // elements that a block takes at once

    template <class Access, class T, class A>
    static Tiles over(Access access, const T* x, index_t samples, index_t elements,
                      const Channels<A>& channels) {
        constexpr int width = Access::width, edge = access.ragged ? width - 1 : 0;
        const bool few =
            !access.ragged && !channels.uniform() && channels.inner == 1 && channels.channels <= 4;
        const int period = !few ? 0 : channels.channels == 3 ? 3 : 4;
        const index_t round = (few ? kThreads / period * period : kThreads) * width;
        const index_t tile = round * kRounds;
        const bool planes = !channels.uniform() && 2 * channels.inner >= round &&
                            (access.ragged || channels.inner % width == 0);
        const index_t part = planes ? channels.inner : elements, parts = elements / part;
        const index_t per_part = (part + edge + tile - 1) / tile;
        return {part,
                parts,
                per_part,
                samples * parts * per_part,
                planes || channels.uniform(),
                access.ragged ? behind_boundary<width>(x) : 0,
                period,
                static_cast<int>(round)};
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

// Calls finish(width, at, loaded, of_sample, next_channel) for every vector of the batch, with what
// load(width, at) and begin(sample) give; `at` counts elements of the batch, next_channel() is the
// channel of its elements, one after the other. The loads of Ahead vectors are under way before the
// first is finished: a thread that waits for each leaves the memory idle for most of the time.
template <int Width, bool Ragged, int Ahead, class A, class Begin, class Load, class Finish>
__device__ __forceinline__ void for_each_vector(const Tiles& tiles, index_t elements,
                                                const Channels<A>& channels, const Begin& begin,
                                                const Load& load, const Finish& finish) {
    static_assert(kRounds % Ahead == 0, "every round is in one group of loads");
    const int round = tiles.round;
    constexpr std::integral_constant<int, Width> whole_vector{};
    for (index_t tile = blockIdx.x; tile < tiles.total; tile += gridDim.x) {
        const index_t part = quotient(tile, tiles.per_part);
        const index_t sample = tiles.parts == 1 ? part : quotient(part, tiles.parts);
        const index_t channel = part - sample * tiles.parts;
        const index_t start = sample * elements + channel * tiles.part;
        const int behind = Ragged ? static_cast<int>((start + tiles.behind) % Width) : 0;
        const index_t offset = (tile - part * tiles.per_part) * kRounds * round - behind;
        const index_t corner = start + offset;
        const index_t rest = tiles.part - offset;
        const int count = rest < kRounds * round ? static_cast<int>(rest) : kRounds * round;
        const int low = Ragged && offset < 0 ? behind : 0;
        const auto is_whole = [&](int at) { return !Ragged || (at >= low && at + Width <= count); };
        const auto of_sample = begin(sample);
        const auto run = [&](auto group, auto threads, const auto& channels_from) {
            constexpr int ahead = decltype(group)::value, round = decltype(threads)::value * Width;
#pragma unroll 1
            for (int first = threadIdx.x * Width; first < count; first += ahead * round) {
                const index_t own = corner + first;
                decltype(load(whole_vector, own)) loaded[ahead];
#pragma unroll
                for (int a = 0; a < ahead; ++a) {
                    if (first + a * round < count && is_whole(first + a * round)) {
                        loaded[a] = load(whole_vector, own + a * round);
                    }
                }
#pragma unroll
                for (int a = 0; a < ahead; ++a) {
                    if (first + a * round < count && is_whole(first + a * round)) {
                        finish(whole_vector, own + a * round, loaded[a], of_sample,
                               channels_from(offset + first + a * round));
                    }
                }
            }
        };
        const auto take_single = [&](int at, const auto& channels_from) {
            constexpr std::integral_constant<int, 1> single{};
            finish(single, corner + at, load(single, corner + at), of_sample,
                   channels_from(offset + at));
        };
        const auto cursor_from = [&](index_t offset) {
            return
                [cursor = ChannelCursor<A>(channels, offset)]() mutable { return cursor.next(); };
        };
        constexpr std::integral_constant<int, kThreads> all_threads{};
        // As many threads as take whole pixels at once: of all its vectors a thread's first element
        // is of the same channel, and so is every other one.
        const auto by_pattern = [&](auto period) {
            constexpr int count_of = decltype(period)::value;
            constexpr std::integral_constant<int, kThreads / count_of * count_of> threads{};
            const int lane = threadIdx.x, few = static_cast<int>(channels.channels);
            Channel<A> pattern[count_of];
#pragma unroll
            for (int c = 0; c < count_of; ++c) {
                pattern[c] = channels.at((lane * Width + c) % count_of % few);
            }
            if (lane * Width < round) {
                run(std::integral_constant<int, 1>{}, threads, [&](index_t) {
                    return [&, e = 0]() mutable { return pattern[e++ % count_of]; };
                });
            }
        };
        if (tiles.one_channel) {
            const Channel<A> one = channels.at(channel);
            const auto same = [&](index_t) { return [&] { return one; }; };
            run(std::integral_constant<int, Ahead>{}, all_threads, same);
            if constexpr (Ragged) {  // what of the part is no whole vector
                const int lane = threadIdx.x, tail = count / Width * Width;
                if (lane < Width && lane >= low && lane < count && low > 0) {
                    take_single(lane, same);
                }
                if (lane < Width && tail + lane < count && (tail > 0 || low == 0)) {
                    take_single(tail + lane, same);
                }
            }
            continue;
        }
        if constexpr (!Ragged) {
            if (tiles.period != 0) {
                tiles.period == 3 ? by_pattern(std::integral_constant<int, 3>{})
                                  : by_pattern(std::integral_constant<int, 4>{});
                continue;
            }
        }
#pragma unroll 1
        for (int at = low + static_cast<int>(threadIdx.x); at < count; at += kThreads) {
            take_single(at, cursor_from);
        }
    }
}

// Calls launch(Width), a constant: the largest power of two that divides samples and addresses. For
// sums, whose bits must not depend on where a sample lies.
template <int Width, class T, class Launch>
cudaError_t for_width(index_t elements, std::initializer_list<const T*> tensors,
                      const Launch& launch) {
    if constexpr (Width > 1) {
        bool vectors = elements % Width == 0;
        for (const T* tensor : tensors) {
            vectors = vectors && behind_boundary<Width>(tensor) == 0;
        }
        if (!vectors) {
            return for_width<Width / 2, T>(elements, tensors, launch);
        }
    }
    return launch(std::integral_constant<int, Width>{});
}

// Calls launch(access), a constant: whole vectors, ragged samples of them, or, where the tensors
// differ, single elements.
template <int Vector, class T, class Launch>
cudaError_t for_access(index_t elements, std::initializer_list<const T*> tensors,
                       const std::int8_t* direction, const Launch& launch) {
    const int behind = behind_boundary<Vector>(*tensors.begin());
    bool alike = direction == nullptr || behind_boundary<Vector>(direction) == behind;
    for (const T* tensor : tensors) {
        alike = alike && behind_boundary<Vector>(tensor) == behind;
    }
    if (alike && behind == 0 && elements % Vector == 0) {
        return launch(Access<Vector, false>{});
    }
    if constexpr (kRagged<Vector>) {
        if (alike) {
            return launch(Access<Vector, true>{});
        }
    }
    return launch(Access<1, false>{});
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

// The instances of a kernel: each type, by `for_access`.
template <class Kernel>
KernelList access_instances(const std::string& name, const Kernel& kernel) {
    KernelList list;
    for_each_type([&](auto type, const std::string& type_name) {
        constexpr int vector = kVectorWidth<typename decltype(type)::type>;
        const auto add = [&](auto access) {
            list.push_back({name + "<" + type_name + ", " + std::to_string(access.width) +
                                (access.ragged ? ", ragged>" : ">"),
                            kernel(type, access)});
        };
        add(Access<vector, false>{});
        if constexpr (kRagged<vector>) {
            add(Access<vector, true>{});
        }
        add(Access<1, false>{});
    });
    return list;
}

// The instances of a kernel: each type, by `for_width`.
template <class Kernel>
KernelList instances(const std::string& name, const Kernel& kernel) {
    KernelList list;
    for_each_type([&](auto type, const std::string& type_name) {
        constexpr int vector = kVectorWidth<typename decltype(type)::type>;
        const auto add = [&](auto width) {
            if constexpr (width <= vector) {
                list.push_back({name + "<" + type_name + ", " + std::to_string(width) + ">",
                                kernel(type, width)});
            }
        };
        add(std::integral_constant<int, 8>{});
        add(std::integral_constant<int, 4>{});
        add(std::integral_constant<int, 2>{});
        add(std::integral_constant<int, 1>{});
    });
    return list;
}

}  // namespace rrfast::cuda
