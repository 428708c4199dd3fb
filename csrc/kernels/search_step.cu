// search_step_: one probe of the safeguarded root search for all samples: the margin of the
// prediction, its sign, the bracket, the next radius (secant and Illinois instead of RR-BS's
// doubling and bisection), and the class beyond the boundary. Reads B*K logits, reads and writes
// six numbers per sample; the host waits for nothing.
#include "../math/search_step.h"
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width, bool Ragged>
__global__ void __launch_bounds__(kRowThreads, 2)
    search_step_kernel(const T* __restrict__ logits, const index_t* __restrict__ prediction,
                       index_t samples, index_t classes, accumulate_t<T> nudge,
                       accumulate_t<T>* __restrict__ state, index_t* __restrict__ rival) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const T* row = logits + sample * classes;
        // Loaded now, so that they are in flight together with the row.
        A* s = state + sample;  // [6, B]
        const RootBracket<A> bracket{s[0],           s[samples],     s[2 * samples],
                                     s[3 * samples], s[4 * samples], s[5 * samples]};
        const index_t y = prediction[sample];
        const bool known = is_class(y, classes);
        const A lead = known ? widen(row[y]) : nan<A>();
        const Span<Width, Ragged> span(row, count);
        const auto top = row_top2<T>(
            span, [&](auto edge, RowIndex k) { return load_logits(edge, row, span, k); });
        if (writes && threadIdx.x == 0) {
            const bool flipped = top.first.index != y;
            const auto other = either(flipped, top.first, top.second);
            const RootBracket<A> next = search_step(bracket, lead - other.value, flipped,
                                                    !known || is_undefined(top.first.value), nudge);
            if (rival && shows_rival(bracket, next)) {
                rival[sample] = other.index;
            }
            s[0] = next.lower;
            s[samples] = next.upper;
            s[2 * samples] = next.lower_margin;
            s[3 * samples] = next.upper_margin;
            s[4 * samples] = next.side;
            s[5 * samples] = next.radius;
        }
    });
}

}  // namespace

template <class T>
cudaError_t search_step_(const T* logits, const index_t* prediction, index_t samples,
                         index_t classes, double nudge, accumulate_t<T>* state, index_t* rival,
                         cudaStream_t stream) {
    return for_access<kVectorWidth<T>>(classes, {logits}, nullptr, [&](auto access) {
        return launch(search_step_kernel<T, access.width, access.ragged>,
                      row_grid(samples, classes, access.width), stream, logits, prediction, samples,
                      classes, static_cast<accumulate_t<T>>(nudge), state, rival);
    });
}

#define INSTANTIATE(T)                                                                       \
    template cudaError_t search_step_<T>(const T*, const index_t*, index_t, index_t, double, \
                                         accumulate_t<T>*, index_t*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList search_step_kernels() {
    return access_instances("search_step_kernel", [](auto type, auto access) {
        return reinterpret_cast<const void*>(
            search_step_kernel<typename decltype(type)::type, access.width, access.ragged>);
    });
}

}  // namespace rrfast::cuda
