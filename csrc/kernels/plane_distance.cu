// plane_distance: how far a hyperplane is in the L-infinity norm, inside a box; the smallest t with
//     sum_i scale_c |normal_i| min(t, room_i) = |gap|
// where room_i is the way to the face of the box ahead, in units of scale. Newton's method, a row
// per sample: the first pass reads 2*B*N elements from memory (B*N without bounds), the others, few
// if any, read what the cache still has; writes B. Eager torch sorts the rooms and sums twice along
// the order, in temporaries of eight bytes.
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

// A sum with what rounding took from it (Knuth). A thread of a large image adds hundreds of values
// that may all be of one size, and double precision is slow on most GPUs, and absent here.
template <class A>
struct Sum {
    A value;
    A lost;

    // A sum that is infinite has lost nothing worth knowing.
    __device__ __forceinline__ A rounded() const { return is_nan(lost) ? value : value + lost; }
};
template <class A>
__device__ __forceinline__ Sum<A> operator+(const Sum<A>& a, const Sum<A>& b) {
    const A value = a.value + b.value;
    const A of_b = value - a.value;
    const A error = (a.value - (value - of_b)) + (b.value - of_b);
    return {value, (a.lost + b.lost) + error};
}

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

// The elements of a row that are this thread's. Of a vector the sums are plain.
template <int Width, int Ahead, class T, class ChannelsFrom>
__device__ __forceinline__ FaceSums<accumulate_t<T>> faces_at(const T* __restrict__ x,
                                                              const T* __restrict__ normal,
                                                              index_t elements, bool boxed,
                                                              bool rising, accumulate_t<T> step,
                                                              const ChannelsFrom& channels_from) {
    using A = accumulate_t<T>;
    FaceSums<A> sums{{A(0), A(0)}, {A(0), A(0)}, infinity<A>()};
    struct Loaded {
        Word<T, Width> normal, x;
    };
    const auto load_at = [&](index_t at) {
        Loaded loaded{load_word<T, Width>(normal + at), {}};
        if (boxed) {
            loaded.x = load_word<T, Width>(x + at);
        }
        return loaded;
    };
    for_each_class<Width, Ahead>(elements, load_at, [&](index_t at, const Loaded& loaded) {
        const auto slope = bit_cast<Vector<T, Width>>(loaded.normal);
        const auto origin = bit_cast<Vector<T, Width>>(loaded.x);
        auto next_channel = channels_from(at);
        Faces<A> of_vector{A(0), A(0), infinity<A>()};
#pragma unroll
        for (int e = 0; e < Width; ++e) {
            const auto face = face_ahead(widen(origin.element[e]), widen(slope.element[e]), rising,
                                         step, next_channel());
            of_vector.spent += face.spent;
            of_vector.moving += face.moving;
            of_vector.nearest = face.nearest < of_vector.nearest ? face.nearest : of_vector.nearest;
        }
        sums = sums +
               FaceSums<A>{{of_vector.spent, A(0)}, {of_vector.moving, A(0)}, of_vector.nearest};
    });
    return sums;
}

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    plane_distance_kernel(const T* __restrict__ x, const T* __restrict__ normal,
                          const accumulate_t<T>* __restrict__ gap,
                          Channels<accumulate_t<T>> channels, index_t samples, index_t elements,
                          accumulate_t<T>* __restrict__ distance) {
    using A = accumulate_t<T>;
    const bool boxed = channels.lower != nullptr;
    const Channel<A> first = channels.at(0);
    const A unit = channels.scale_stride == 0 ? first.scale : infinity<A>();
    for_each_row(samples, elements, [&](index_t sample, index_t, bool writes) {
        const T* origin = x + sample * elements;
        const T* slope = normal + sample * elements;
        const A closing = gap[sample];
        Newton<A> newton{A(0), false};
        while (!newton.last) {  // the same bits in every thread of the row, so all leave together
            const auto look = [&](auto ahead, const auto& channels_from) {
                return faces_at<Width, decltype(ahead)::value>(
                    origin, slope, elements, boxed, closing > A(0), newton.step, channels_from);
            };
            FaceSums<A> sums =
                channels.uniform()
                    ? look(std::integral_constant < int, Width == 1 && sizeof(A) == 4 ? 2 : 1 > {},
                           [&](index_t) { return [&] { return first; }; })
                    : look(std::integral_constant<int, 1>{}, [&](index_t at) {
                          return [cursor = ChannelCursor<A>(channels, at)]() mutable {
                              return cursor.next();
                          };
                      });
            sums = row_reduce(sums, [](const auto& a, const auto& b) { return a + b; });
            const Faces<A> faces{sums.spent.rounded(), sums.moving.rounded(), sums.nearest};
            newton = newton_step(faces, newton.step, closing, unit);
        }
        if (writes && threadIdx.x == 0) {
            distance[sample] = newton.step;
        }
    });
}

}  // namespace

template <class T>
cudaError_t plane_distance(const T* x, const T* normal, const accumulate_t<T>* gap,
                           const Channels<accumulate_t<T>>& channels, index_t samples,
                           index_t elements, accumulate_t<T>* distance, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(elements, {x, normal}, nullptr, [&](auto width) {
        return launch(plane_distance_kernel<T, width>, row_grid(samples, elements), stream, x,
                      normal, gap, channels, samples, elements, distance);
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
