// Vectors of elements, and how a grid walks over [B, N] tensors sample by sample. Elementwise
// kernels read and write every element once, so that memory bandwidth is the only bound: an access
// moves 16 bytes, and a thread has several loads in flight before it uses the first.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "device.cuh"
#include "launch.h"

namespace rrfast::cuda {

// Elements in one 16-byte access.
template <class T>
constexpr int kVectorWidth = 16 / sizeof(T);

template <class T, int Width>
struct alignas(sizeof(T) * Width) Vector {
    T element[Width];
};

// The built-in type of so many bytes. It is always moved in one access; that of a struct may be
// split.
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

// Loads what no thread writes while the kernel runs. A vector in flight is held as a word, because
// separate elements would take a register each.
template <class T, int Width>
__device__ __forceinline__ Word<T, Width> load_word(const T* __restrict__ source) {
    watch::reads_constant(source, sizeof(Word<T, Width>));
    return __ldg(reinterpret_cast<const Word<T, Width>*>(source));
}
template <class T, int Width>
__device__ __forceinline__ Vector<T, Width> load(const T* __restrict__ source) {
    return bit_cast<Vector<T, Width>>(load_word<T, Width>(source));
}
// Loads what the kernel also writes: this thread later, or others after a reduction.
template <class T, int Width>
__device__ __forceinline__ Word<T, Width> load_changing_word(const T* source) {
    watch::reads_changing(source, sizeof(Word<T, Width>));
    return *reinterpret_cast<const Word<T, Width>*>(source);
}
template <class T, int Width>
__device__ __forceinline__ Vector<T, Width> load_changing(const T* source) {
    return bit_cast<Vector<T, Width>>(load_changing_word<T, Width>(source));
}
template <class T, int Width>
__device__ __forceinline__ void store(T* __restrict__ target, const Vector<T, Width>& vector) {
    store_word(reinterpret_cast<Word<T, Width>*>(target), bit_cast<Word<T, Width>>(vector));
    watch::writes(target, sizeof(vector));
}

// Rounds to storage, two elements at a time where one instruction does that.
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

// A 64-bit division takes a hundred instructions, a 32-bit one a quarter of that, and almost every
// index fits in 32 bits.
__device__ __forceinline__ index_t quotient(index_t a, index_t b) {
    return ((a | b) >> 32) == 0
               ? static_cast<index_t>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b))
               : a / b;
}

// How a kernel accesses its tensors: by vectors of `width` elements. Samples begin on a vector's
// boundary or, if ragged, at the same offset from one in all tensors. Then the first and the last
// vector of a sample may be partial, and are processed element by element.
template <int Width, bool Ragged>
struct Access {
    static constexpr int width = Width;
    static constexpr bool ragged = Ragged;
};
// Not for vectors of two float64, because float64 is bound by arithmetic, not by memory.
template <int Width>
constexpr bool kRagged = Width > 2;
template <int Width, class T>
int behind_boundary(const T* pointer) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(pointer) / sizeof(T) % Width);
}

// A block processes tiles of kThreads * kRounds vectors. A tile lies in one part of one sample, so
// that values per sample or per channel are read once and no element needs a division. A part is
// the plane of a channel if channels differ and planes are large enough, else the whole sample. If
// there are few channels and they are innermost (channels-last), the channels of a thread's
// elements repeat. All other cases, small planes and many innermost channels, look up the channel
// of each element.
constexpr int kThreads = 256;
constexpr int kRounds = 4;

struct Tiles {
    index_t part;      // elements per part
    index_t parts;     // per sample
    index_t per_part;  // tiles per part
    index_t total;     // tiles of the batch
    bool one_channel;  // whether a part has one channel
    int behind;        // elements from a vector's boundary to the first sample
    int period;        // the channels repeat after so many elements; 0: not used
    int round;         // elements that a block processes at once

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

// The channels of consecutive elements of a sample: one division, then counting.
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

// Calls finish(width, at, load(width, at), begin(sample), next_channel) for every vector of the
// batch. `at` is the index of its first element in the batch; next_channel() gives the channels of
// its elements one by one. The loads of Ahead vectors are in flight before the first is finished:
// if a thread waited for each, memory would be idle most of the time.
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
        // The active threads together cover whole pixels. So the first element of each of a
        // thread's vectors is of the same channel, and likewise every other element.
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
            if constexpr (Ragged) {  // the partial vectors of the part
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

// Calls launch(Width) with a constant: the largest power of two that divides samples and addresses.
// For sums, whose bits must not depend on the address of a sample.
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

// Calls launch(access) with a constant: whole vectors, ragged samples, or single elements if the
// tensors have different offsets.
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

// The instances of a kernel for every type, as `for_access` chooses them.
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

// The instances of a kernel for every type, as `for_width` chooses them.
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
