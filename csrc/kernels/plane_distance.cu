// plane_distance: the L-infinity distance to a hyperplane inside a box: the smallest t with
//     sum_i scale_c |normal_i| min(t, room_i) = |gap|
// where room_i is the distance to the face of the box ahead, in units of scale. Newton's method,
// one row per sample: reads 2*B*N elements from memory (B*N without bounds) and writes B. Eager
// torch sorts the distances and takes two cumulative sums, in temporaries of eight bytes per
// element.
//
// Every step reads the whole image. So it is kept in the shared memory of a block or, for large
// images from sm_90 on, of a cluster, whose blocks add up their parts. An image too large for that
// is read from global memory in every step.
#include "../math/plane_distance.h"
#include "kept_row.cuh"
#include "launch.h"

namespace rrfast::cuda {
namespace {

// As many as there are registers for; a kept row needs no loads in flight.
template <class T>
constexpr int kFacesAhead = sizeof(T) == 4 ? 2 : 1;

template <class A>
struct FaceSums {
    Sum<A> spent;
    Sum<A> moving;
    A nearest;
};
template <class A>
__device__ __forceinline__ FaceSums<A> operator+(const FaceSums<A>& a, const FaceSums<A>& b) {
    return {a.spent + b.spent, a.moving + b.moving, b.nearest < a.nearest ? b.nearest : a.nearest};
}

// Adds this thread's elements from `begin` to `end`, which are of one channel. Within a vector the
// sums are plain.
template <int Width, class T, class A>
__device__ __forceinline__ void add_faces(FaceSums<A>& sums, const T* x, const T* normal,
                                          RowIndex begin, RowIndex end, bool boxed, bool rising,
                                          A step, const Channel<A>& channel) {
    struct Loaded {
        Word<T, Width> normal, x;
    };
    const auto load_at = [&](auto, RowIndex at) {
        Loaded loaded{load_part<T, Width>(normal + at), {}};
        if (boxed) {
            loaded.x = load_part<T, Width>(x + at);
        }
        return loaded;
    };
    const auto take = [&](auto, RowIndex, const Loaded& loaded) {
        const auto slope = bit_cast<Vector<T, Width>>(loaded.normal);
        const auto origin = bit_cast<Vector<T, Width>>(loaded.x);
        Faces<A> of_vector{A(0), A(0), infinity<A>()};
#pragma unroll
        for (int e = 0; e < Width; ++e) {
            const auto face = face_ahead(widen(origin.element[e]), widen(slope.element[e]), rising,
                                         step, channel);
            of_vector.spent += face.spent;
            of_vector.moving += face.moving;
            of_vector.nearest = face.nearest < of_vector.nearest ? face.nearest : of_vector.nearest;
        }
        sums = sums + FaceSums<A>{Sum<A>::of(of_vector.spent), Sum<A>::of(of_vector.moving),
                                  of_vector.nearest};
    };
    for_each_class<kFacesAhead<T>>(Span<Width, false>(x, end), load_at, take, begin);
}

// The same if every element may be of another channel.
template <int Width, class T, class A>
__device__ __forceinline__ void add_mixed_faces(FaceSums<A>& sums, const T* x, const T* normal,
                                                RowIndex elements, bool boxed, bool rising, A step,
                                                const Channels<A>& channels, RowIndex offset) {
    const auto nothing = [](auto, RowIndex) { return 0; };
    for_each_class<1>(Span<Width, false>(x, elements), nothing, [&](auto, RowIndex first, int) {
        ChannelCursor<A> cursor(channels, offset + first);
#pragma unroll 1
        for (RowIndex at = first; at < first + Width; ++at) {
            const T slope = bit_cast<T>(load_part<T, 1>(normal + at));
            const T origin = boxed ? bit_cast<T>(load_part<T, 1>(x + at)) : T{};
            const auto face = face_ahead(widen(origin), widen(slope), rising, step, cursor.next());
            sums =
                sums + FaceSums<A>{Sum<A>::of(face.spent), Sum<A>::of(face.moving), face.nearest};
        }
    });
}

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    plane_distance_kernel(const T* __restrict__ x, const T* __restrict__ normal,
                          const accumulate_t<T>* __restrict__ gap,
                          Channels<accumulate_t<T>> channels, index_t samples, index_t elements,
                          Parts parts, accumulate_t<T>* __restrict__ distance) {
    using A = accumulate_t<T>;
    const bool boxed = channels.lower != nullptr;
    const unsigned blocks = cluster_blocks(), rank = cluster_rank();
    const RowIndex begin = rank * parts.elements;
    const RowIndex end = begin + parts.elements < elements ? begin + parts.elements : elements;
    // Elements per channel, if they are enough for all threads; the whole row, if all channels are
    // equal.
    const RowIndex plane = channels.uniform() ? RowIndex(1) << 31 : channels.inner;
    const bool planes = channels.uniform() || (plane % Width == 0 && plane >= blockDim.x * Width);
    const auto of_sample = [&](index_t sample, RowIndex count, bool writes) {
        const T* origin = x + sample * elements + begin;
        const T* slope = normal + sample * elements + begin;
        if (parts.kept) {
            T* const places = dynamic_shared<T>() + 2 * parts.elements * threadIdx.y;
            const auto keep = [&](const T*& row, T* place) {
                for_each_class<1>(
                    Span<Width, false>(row, count), [](auto, RowIndex) { return 0; },
                    [&](auto, RowIndex k, int) {
                        copy_to_shared(place + k, reinterpret_cast<const Word<T, Width>*>(row + k));
                    });
                row = place;
            };
            keep(slope, places);
            if (boxed) {
                keep(origin, places + parts.elements);
            }
            wait_for_copies();
        }
        const bool rising = gap[sample] > A(0);
        Newton<A> newton{A(0), false};
        while (!newton.last) {  // all threads of the row have the same bits, and so leave together
            FaceSums<A> sums{Sum<A>::of(A(0)), Sum<A>::of(A(0)), infinity<A>()};
            if (planes) {
                RowIndex channel = begin / plane;
                for (RowIndex from = 0; from < count; ++channel) {
                    const RowIndex next = (channel + 1) * plane - begin;
                    const RowIndex to = next < count ? next : count;
                    add_faces<Width>(sums, origin, slope, from, to, boxed, rising, newton.step,
                                     channels.at(channel));
                    from = to;
                }
            } else {
                add_mixed_faces<Width>(sums, origin, slope, count, boxed, rising, newton.step,
                                       channels, begin);
            }
            const auto add = [](const auto& a, const auto& b) { return a + b; };
            sums = cluster_reduce(row_reduce(sums, add), add);
            const Faces<A> faces{sums.spent.rounded(), sums.moving.rounded(), sums.nearest};
            const A unit = channels.scale_stride == 0 ? channels.at(0).scale : infinity<A>();
            newton = newton_step(faces, newton.step, gap[sample], unit);
        }
        if (writes && rank == 0 && threadIdx.x == 0) {
            distance[sample] = newton.step;
        }
    };
    for_each_row(samples, begin < end ? end - begin : 0, of_sample, blocks);
}

}  // namespace

template <class T>
cudaError_t plane_distance(const T* x, const T* normal, const accumulate_t<T>* gap,
                           const Channels<accumulate_t<T>>& channels, index_t samples,
                           index_t elements, accumulate_t<T>* distance, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(elements, {x, normal}, [&](auto width) {
        // Room for x also without bounds, so that a sample is divided, and summed, as in a box
        // without effect. `parted_grid` never asks for more shared memory than the device has.
        Parts parts;
        const Grid grid = parted_grid(samples, elements, width, 2 * sizeof(T), parts);
        return launch(plane_distance_kernel<T, width>, grid, stream, x, normal, gap, channels,
                      samples, elements, parts, distance);
    });
}

#define INSTANTIATE(T)                                                                         \
    template cudaError_t plane_distance<T>(const T*, const T*, const accumulate_t<T>*,         \
                                           const Channels<accumulate_t<T>>&, index_t, index_t, \
                                           accumulate_t<T>*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList plane_distance_kernels() {
    return instances("plane_distance_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            plane_distance_kernel<typename decltype(type)::type, width>);
    });
}

}  // namespace rrfast::cuda
