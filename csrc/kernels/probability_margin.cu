// probability_margin: the numbers that IRAT's instance weights need of a row of logits, in one
// pass: reads B*K elements, writes 4*B. Eager torch runs a softmax, a gather, a masked fill, a
// maximum, a logarithm, two products and three sums, each of them a pass. The maximum and the sums
// relative to it are computed together: a larger maximum rescales the sums (Milakov & Gimelshein
// 2018).
#include "../math/probability_margin.h"
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    probability_margin_kernel(const T* __restrict__ logits, const index_t* __restrict__ labels,
                              index_t samples, index_t classes,
                              accumulate_t<T>* __restrict__ margin,
                              accumulate_t<T>* __restrict__ top2_ratio,
                              accumulate_t<T>* __restrict__ similarity,
                              accumulate_t<T>* __restrict__ entropy) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const T* row = logits + sample * classes;
        const index_t label = labels[sample];
        const bool known = is_class(label, classes);
        const auto own = [&] { return known ? widen(row[label]) : nan<A>(); };
        // Loaded now, so that it is in flight together with the row; float64 has no registers left
        // for it.
        constexpr bool early = sizeof(A) < sizeof(double);
        const A asked = early ? own() : A(0);
        Rivals<A> rivals = no_rivals<A>();
        const Span<Width, false> span(row, count);
        for_each_class<sizeof(A) == sizeof(double) ? 1 : kAhead<T>>(
            span, [&](auto, RowIndex k) { return load_word<T, Width>(row + k); },
            [&](auto, RowIndex k, const Word<T, Width>& loaded) {
                const auto vector = bit_cast<Vector<T, Width>>(loaded);
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    const A logit = k + e == label ? -infinity<A>() : widen(vector.element[e]);
                    rivals = combine(rivals, one_rival(logit));
                }
            });
        rivals = row_reduce(rivals, [](const auto& a, const auto& b) { return combine(a, b); });
        if (writes && threadIdx.x == 0) {
            const auto result = probability_margin_of(early ? asked : own(), rivals);
            margin[sample] = result.margin;
            top2_ratio[sample] = result.top2_ratio;
            similarity[sample] = result.similarity;
            entropy[sample] = result.entropy;
        }
    });
}

}  // namespace

template <class T>
cudaError_t probability_margin(const T* logits, const index_t* labels, index_t samples,
                               index_t classes, accumulate_t<T>* margin,
                               accumulate_t<T>* top2_ratio, accumulate_t<T>* similarity,
                               accumulate_t<T>* entropy, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(classes, {logits}, [&](auto width) {
        return launch(probability_margin_kernel<T, width>, row_grid(samples, classes, width),
                      stream, logits, labels, samples, classes, margin, top2_ratio, similarity,
                      entropy);
    });
}

#define INSTANTIATE(T)                                                                     \
    template cudaError_t probability_margin<T>(const T*, const index_t*, index_t, index_t, \
                                               accumulate_t<T>*, accumulate_t<T>*,         \
                                               accumulate_t<T>*, accumulate_t<T>*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList probability_margin_kernels() {
    return instances("probability_margin_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            probability_margin_kernel<typename decltype(type)::type, width>);
    });
}

}  // namespace rrfast::cuda
