// plane_seed: the cotangent whose backward is the normal of the plane on which the linearised model
// ties two classes, and the gap to that plane.
//     seed_k = u,  seed_y = -u,  else 0,    gap = u (h_y - h_k)
// with a power of two u near 1 / max |h|, so that nothing overflows. Eager torch makes about twenty
// passes and small ops of it. Here B*K elements are read once, for the two ends of the row, and B*K
// written.
#include "../math/plane_seed.h"
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    plane_seed_kernel(const T* __restrict__ logits, const index_t* __restrict__ prediction,
                      const index_t* __restrict__ target, index_t samples, index_t classes,
                      T* __restrict__ seed, accumulate_t<T>* __restrict__ gap) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        // Loaded now, so that they are in flight together with the row.
        const index_t y = prediction[sample], k = target[sample];
        const T* row = logits + sample * classes;
        const bool known = is_class(y, classes) && is_class(k, classes);
        const A top = known ? widen(row[y]) : A(0), other = known ? widen(row[k]) : A(0);
        const Span<Width, false> span(row, count);
        Range<A> range = empty_range<A>();
        for_each_logit<T>(
            span, [&](auto, RowIndex i) { return load_word<T, Width>(row + i); },
            [&](const auto& next) { range = combine(range, Range<A>{next.value, next.value}); });
        range = row_reduce(range, [](const auto& a, const auto& b) { return combine(a, b); });
        const A unit = plane_unit<T>(range);

        T* result = seed + sample * classes;
        for_each_class<1>(
            span, [](auto, RowIndex i) { return i; },
            [&](auto, RowIndex i, RowIndex) {
                A cotangent[Width];
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    cotangent[e] = plane_cotangent(i + e, k, y, unit);
                }
                store(result + i, narrowed<T>(cotangent));
            });
        if (writes && threadIdx.x == 0) {
            gap[sample] = known ? plane_gap<T>(top, other, unit, range.largest) : nan<A>();
        }
    });
}

}  // namespace

template <class T>
cudaError_t plane_seed(const T* logits, const index_t* prediction, const index_t* target,
                       index_t samples, index_t classes, T* seed, accumulate_t<T>* gap,
                       cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(classes, {logits, seed}, [&](auto width) {
        return launch(plane_seed_kernel<T, width>, row_grid(samples, classes, width), stream,
                      logits, prediction, target, samples, classes, seed, gap);
    });
}

#define INSTANTIATE(T)                                                                             \
    template cudaError_t plane_seed<T>(const T*, const index_t*, const index_t*, index_t, index_t, \
                                       T*, accumulate_t<T>*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList plane_seed_kernels() {
    return instances("plane_seed_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            plane_seed_kernel<typename decltype(type)::type, width>);
    });
}

}  // namespace rrfast::cuda
