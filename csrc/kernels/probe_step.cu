// probe_step: the length of a step to a hyperplane,
//     step = min(longest, max(distance of the plane, finest * largest))
//     largest = max_i |x_i| / min_c scale_c
// Two launches: plane_distance writes the distance into `step`; then a row kernel reads the B*N
// elements of x and replaces the distance by the step. One kernel for both would need more
// registers than plane_distance can have.
#include "../math/probe_step.h"
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

// NaN if any value is.
template <class A>
struct Extent {
    A largest;  // of |x|
    A unit;     // the smallest scale
};
template <class A>
__device__ __forceinline__ Extent<A> operator+(const Extent<A>& a, const Extent<A>& b) {
    return {larger(a.largest, b.largest), smaller(a.unit, b.unit)};
}

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads)
    probe_step_kernel(const T* __restrict__ x, Channels<accumulate_t<T>> channels, index_t samples,
                      index_t elements, accumulate_t<T> finest, accumulate_t<T> longest,
                      accumulate_t<T>* __restrict__ step, accumulate_t<T>* __restrict__ largest) {
    using A = accumulate_t<T>;
    for_each_row(samples, elements, [&](index_t sample, RowIndex count, bool writes) {
        const T* origin = x + sample * elements;
        Extent<A> extent{A(0), channels.scale ? channels.scale[0] : A(1)};
        for_each_class<kAhead<T>>(
            Span<Width, false>(origin, count),
            [&](auto, RowIndex at) { return load_word<T, Width>(origin + at); },
            [&](auto, RowIndex, const Word<T, Width>& word) {
                const auto vector = bit_cast<Vector<T, Width>>(word);
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    const A value = widen(vector.element[e]);
                    extent.largest = larger(extent.largest, value < A(0) ? -value : value);
                }
            });
        if (channels.scale_stride != 0) {
#pragma unroll 1
            for (index_t c = threadIdx.x; c < channels.channels; c += blockDim.x) {
                extent.unit = smaller(extent.unit, channels.scale[c]);
            }
        }
        extent = row_reduce(extent, [](const auto& a, const auto& b) { return a + b; });
        if (writes && threadIdx.x == 0) {
            const A size = extent.largest / extent.unit;
            largest[sample] = size;
            step[sample] = probe_length(step[sample], size, finest, longest);
        }
    });
}

}  // namespace

template <class T>
cudaError_t probe_step(const T* x, const T* normal, const accumulate_t<T>* gap,
                       const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                       accumulate_t<T> finest, accumulate_t<T> longest, accumulate_t<T>* step,
                       accumulate_t<T>* largest, cudaStream_t stream) {
    const cudaError_t status =
        plane_distance(x, normal, gap, channels, samples, elements, step, stream);
    if (status != cudaSuccess) {
        return status;
    }
    return for_width<kVectorWidth<T>>(elements, {x}, [&](auto width) {
        return launch(probe_step_kernel<T, width>, row_grid(samples, elements), stream, x, channels,
                      samples, elements, finest, longest, step, largest);
    });
}

#define INSTANTIATE(T)                                                                     \
    template cudaError_t probe_step<T>(const T*, const T*, const accumulate_t<T>*,         \
                                       const Channels<accumulate_t<T>>&, index_t, index_t, \
                                       accumulate_t<T>, accumulate_t<T>, accumulate_t<T>*, \
                                       accumulate_t<T>*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList probe_step_kernels() {
    return instances("probe_step_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            probe_step_kernel<typename decltype(type)::type, width>);
    });
}

}  // namespace rrfast::cuda
