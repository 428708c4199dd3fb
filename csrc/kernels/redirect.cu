// redirect_: a round of method `refined` between its backward and its next forward: the crossing of
// a ray with the plane that was seen on it, the nearest ray, the aim turned half towards the
// normal, and the point of the new ray at its own crossing. Eager torch makes thirty passes and
// small ops of it.
//
// Two launches. A row kernel goes over the sample twice, since the new aim needs the sum of
// |normal| and the new step that of the new aim: it reads x and normal twice, aim and direction
// once or twice, and writes aim and direction. Then `perturb` writes z. A sample is read by one
// block, the second time from the cache.
#include "../math/redirect.h"
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

// Of the old ray: normal . (z - x), and scale_c |normal_i|.
template <class A>
struct RaySums {
    Sum<A> way;
    Sum<A> size;
};
template <class A>
__device__ __forceinline__ RaySums<A> operator+(const RaySums<A>& a, const RaySums<A>& b) {
    return {a.way + b.way, a.size + b.size};
}

template <class A>
__device__ __forceinline__ RowIndex channel_of(const Channels<A>& channels, RowIndex k) {
    return channels.uniform() ? 0
                              : k / static_cast<RowIndex>(channels.inner) %
                                    static_cast<RowIndex>(channels.channels);
}

// Adds this thread's elements of a sample; those of a vector are of one channel.
template <int Width, class T, class A>
__device__ __forceinline__ void add_ray(RaySums<A>& sums, const T* x, const T* normal,
                                        const std::int8_t* direction, RowIndex count, A step,
                                        const Channels<A>& channels) {
    struct Loaded {
        Word<T, Width> x, normal;
    };
    for_each_class<Width == 1 ? 1 : kAhead<T> / 2>(
        Span<Width, false>(x, count),
        [&](auto, RowIndex k) {
            return Loaded{load_word<T, Width>(x + k), load_word<T, Width>(normal + k)};
        },
        [&](auto, RowIndex k, const Loaded& loaded) {
            const auto origin = bit_cast<Vector<T, Width>>(loaded.x);
            const auto slope = bit_cast<Vector<T, Width>>(loaded.normal);
            const auto sign = load_changing<std::int8_t, Width>(direction + k);
            const RowIndex c = channel_of(channels, k);
            const Channel<A> channel = channels.at(c);
            A way = A(0), size = A(0);
#pragma unroll
            for (int e = 0; e < Width; ++e) {
                const A n = widen(slope.element[e]);
                way += n * displacement<T>(widen(origin.element[e]), step * channel.scale,
                                           unpack_sign<A>(sign.element[e]), channel);
                size += n < A(0) ? -n : n;
            }
            sums = sums + RaySums<A>{Sum<A>::of(way), Sum<A>::of(size * channels.unit(c))};
        });
}

// Turns this thread's elements of the aim, half towards normal * factor, and adds up what the new
// ray closes with `step`. Keeps the old direction where it is the nearest ray's.
template <int Width, class T, class A>
__device__ __forceinline__ void turn_ray(Sum<A>& way, const T* x, const T* normal, A* aim,
                                         std::int8_t* direction, std::int8_t* nearest_direction,
                                         RowIndex count, bool nearer, A factor, A step,
                                         const Channels<A>& channels) {
    const auto nothing = [](auto, RowIndex) { return 0; };
    for_each_class<1>(Span<Width, false>(x, count), nothing, [&](auto, RowIndex k, int) {
        const auto origin = load<T, Width>(x + k), slope = load<T, Width>(normal + k);
        if (nearer) {
            store(nearest_direction + k, load_changing<std::int8_t, Width>(direction + k));
        }
        auto aimed = load_changing<A, Width>(aim + k);
        Vector<std::int8_t, Width> sign;
        const Channel<A> channel = channels.at(channel_of(channels, k));
        A closed = A(0);
#pragma unroll
        for (int e = 0; e < Width; ++e) {
            const A n = widen(slope.element[e]);
            aimed.element[e] = redirected(aimed.element[e], n * factor);
            sign.element[e] = pack_sign(widen(narrow<T>::from(aimed.element[e])));
            closed += n * displacement<T>(widen(origin.element[e]), step * channel.scale,
                                          unpack_sign<A>(sign.element[e]), channel);
        }
        store(aim + k, aimed);
        store(direction + k, sign);
        way = way + Sum<A>::of(closed);
    });
}

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    redirect_kernel(const T* __restrict__ x, const T* __restrict__ normal,
                    const accumulate_t<T>* __restrict__ gap,
                    const accumulate_t<T>* __restrict__ state, const index_t* __restrict__ rival,
                    Channels<accumulate_t<T>> channels, index_t samples, index_t elements,
                    accumulate_t<T>* step, accumulate_t<T>* aim, std::int8_t* direction,
                    accumulate_t<T>* nearest, std::int8_t* nearest_direction, index_t* flipped_to) {
    using A = accumulate_t<T>;
    constexpr int of_aim = Width < kVectorWidth<A> ? Width : kVectorWidth<A>;
    const auto add = [](const auto& a, const auto& b) { return a + b; };
    // Whether vectors are of one channel; else elements are taken one by one.
    const bool planes = channels.uniform() || channels.inner % Width == 0;
    for_each_row(samples, elements, [&](index_t sample, RowIndex count, bool writes) {
        const index_t first = sample * elements;
        RaySums<A> sums{Sum<A>::of(A(0)), Sum<A>::of(A(0))};
        const auto look = [&](auto width) {
            add_ray<width>(sums, x + first, normal + first, direction + first, count, step[sample],
                           channels);
        };
        planes ? look(std::integral_constant<int, Width>{})
               : look(std::integral_constant<int, 1>{});
        sums = row_reduce(sums, add);
        const auto seen = seen_plane(step[sample], gap[sample], sums.way.rounded(),
                                     state[5 * samples + sample], nearest[6 * samples + sample]);
        const A factor = normal_factor(sums.size.rounded(), static_cast<A>(elements));

        Sum<A> way = Sum<A>::of(A(0));
        const auto turn = [&](auto width) {
            turn_ray<width>(way, x + first, normal + first, aim + first, direction + first,
                            nearest_direction + first, count, seen.nearer, factor, seen.probe,
                            channels);
        };
        planes ? turn(std::integral_constant<int, of_aim>{})
               : turn(std::integral_constant<int, 1>{});
        way = row_reduce(way, add);
        if (writes && threadIdx.x == 0) {  // all have read what is written here
            learn_from_ray(seen, state + sample, rival[sample], samples, nearest + sample,
                           flipped_to + sample);
            step[sample] =
                redirected_step(seen.probe, seen.gap, way.rounded(), nearest[7 * samples + sample]);
        }
    });
}

}  // namespace

template <class T>
cudaError_t redirect_(const T* x, const T* normal, const accumulate_t<T>* gap,
                      const accumulate_t<T>* state, const index_t* rival,
                      const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                      accumulate_t<T>* step, accumulate_t<T>* aim, T* z, std::int8_t* direction,
                      accumulate_t<T>* nearest, std::int8_t* nearest_direction, index_t* flipped_to,
                      cudaStream_t stream) {
    constexpr int most = kVectorWidth<T>;
    const auto launch_for = [&](auto width) {
        return launch(redirect_kernel<T, width>, row_grid(samples, elements), stream, x, normal,
                      gap, state, rival, channels, samples, elements, step, aim, direction, nearest,
                      nearest_direction, flipped_to);
    };
    const bool alike = behind_boundary<kVectorWidth<accumulate_t<T>>>(aim) == 0 &&
                       behind_boundary<most>(direction) == 0 &&
                       behind_boundary<most>(nearest_direction) == 0;
    const cudaError_t status = alike ? for_width<most>(elements, {x, normal}, launch_for)
                                     : launch_for(std::integral_constant<int, 1>{});
    if (status != cudaSuccess) {
        return status;
    }
    return perturb<T>(x, direction, step, channels, samples, elements, z, stream);
}

#define INSTANTIATE(T)                                                                          \
    template cudaError_t redirect_<T>(                                                          \
        const T*, const T*, const accumulate_t<T>*, const accumulate_t<T>*, const index_t*,     \
        const Channels<accumulate_t<T>>&, index_t, index_t, accumulate_t<T>*, accumulate_t<T>*, \
        T*, std::int8_t*, accumulate_t<T>*, std::int8_t*, index_t*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList redirect_kernels() {
    return instances("redirect_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(redirect_kernel<typename decltype(type)::type, width>);
    });
}

}  // namespace rrfast::cuda
