// linear_radius: the closed form of RR-Fast: the minimum of q_i over i != prediction, and its class
// (errata 2, 3), in one pass over both rows of logits. Reads 2*B*K elements, writes 2*B. Eager
// torch runs two gathers, four differences, a quotient, three selections and a minimum, each of
// them a pass.
#include "../math/linear_radius.h"
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width, bool Ragged>
__global__ void __launch_bounds__(kRowThreads, 2)
    linear_radius_kernel(const T* __restrict__ h0, const T* __restrict__ h1,
                         const index_t* __restrict__ prediction, index_t samples, index_t classes,
                         accumulate_t<T> alpha, const accumulate_t<T>* __restrict__ unit,
                         accumulate_t<T>* __restrict__ radius, index_t* __restrict__ rival) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const T* row0 = h0 + sample * classes;
        const T* row1 = h1 + sample * classes;
        const index_t top = prediction[sample];
        const bool known = is_class(top, classes);
        const A top0 = known ? quarter_of_top(widen(row0[top])) : nan<A>();
        const A top1 = known ? quarter_of_top(widen(row1[top])) : nan<A>();
        struct Loaded {
            Word<T, Width> clean, moved;
        };
        auto own = nobody<A, RowIndex>();
        RowIndex pushed = 0;
        const Span<Width, Ragged> span(row0, count);
        for_each_class<Ragged && Width == 8 ? 1 : kAhead<T> / 2>(
            span,
            [&](auto edge, RowIndex k) {
                return Loaded{load_logits(edge, row0, span, k), load_logits(edge, row1, span, k)};
            },
            [&](auto, RowIndex k, const Loaded& loaded) {
                const auto clean = bit_cast<Vector<T, Width>>(loaded.clean);
                const auto moved = bit_cast<Vector<T, Width>>(loaded.moved);
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    const A step = crossing(top0 - quarter(widen(clean.element[e])),
                                            top1 - quarter(widen(moved.element[e])), alpha);
                    take_first(own, {k + e == top ? infinity<A>() : step, pushed + e});
                }
                pushed += Width;
            });
        const auto first = row_reduce(in_row(span, own, nobody<A, RowIndex>()),
                                      [](const auto& a, const auto& b) { return first_of(a, b); });
        if (writes && threadIdx.x == 0) {
            radius[sample] = unit ? first.value * unit[sample] : first.value;
            rival[sample] = rival_of(first);
        }
    });
}

}  // namespace

template <class T>
cudaError_t linear_radius(const T* h0, const T* h1, const index_t* prediction, index_t samples,
                          index_t classes, double alpha, const accumulate_t<T>* unit,
                          accumulate_t<T>* radius, index_t* rival, cudaStream_t stream) {
    return for_access<kVectorWidth<T>>(classes, {h0, h1}, nullptr, [&](auto access) {
        return launch(linear_radius_kernel<T, access.width, access.ragged>,
                      row_grid(samples, classes, access.width), stream, h0, h1, prediction, samples,
                      classes, static_cast<accumulate_t<T>>(alpha), unit, radius, rival);
    });
}

#define INSTANTIATE(T)                                                                          \
    template cudaError_t linear_radius<T>(const T*, const T*, const index_t*, index_t, index_t, \
                                          double, const accumulate_t<T>*, accumulate_t<T>*,     \
                                          index_t*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList linear_radius_kernels() {
    return access_instances("linear_radius_kernel", [](auto type, auto access) {
        return reinterpret_cast<const void*>(
            linear_radius_kernel<typename decltype(type)::type, access.width, access.ragged>);
    });
}

}  // namespace rrfast::cuda
