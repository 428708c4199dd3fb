// direction_seed: prediction, margin (raw, and clear of rounding), runner-up and the cotangent of
// the input gradient from one read of the logits (errata 4).
//     seed_k = softmax over k != prediction of h_k / T,    seed_prediction = -1
// Eager torch runs argmax, gather, a masked fill, a softmax and a scatter: about ten passes. Here
// B*K elements are read and B*K written. A row stays in shared memory for its three passes: the two
// best classes, the sum of the weights, and the quotients. An exponential costs more than
// everything else, so each is computed once: the weights, not rounded to storage, replace the
// logits in shared memory.
//
// A row too long for shared memory is read twice; its first pass finds the two best classes and the
// sum together.
#include "../math/direction_seed.h"
#include "kept_row.cuh"
#include "launch.h"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    direction_seed_kernel(const T* __restrict__ logits, index_t samples, index_t classes,
                          accumulate_t<T> temperature, index_t* __restrict__ prediction,
                          accumulate_t<T>* __restrict__ margin, T* __restrict__ seed,
                          index_t* __restrict__ runner_up, accumulate_t<T>* __restrict__ clear) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const T* source = logits + sample * classes;
        const Span<Width, false> span(source, count);
        const KeptRow<T, Width> row(classes);
        row.fetch(source, span);
        const auto word_at = [&](auto, RowIndex k) { return row.word_at(k); };
        const auto top = row_top2<T>(span, word_at);

        A sum = 0;
        for_each_class<1>(span, word_at, [&](auto, RowIndex k, const Word<T, Width>& word) {
            const auto vector = bit_cast<Vector<T, Width>>(word);
            Vector<A, Width> weights;
#pragma unroll
            for (int e = 0; e < Width; ++e) {
                const RowIndex i = k + e;
                const A weight = seed_weight(widen(vector.element[e]), i, top, temperature);
                weights.element[e] = i == top.first.index ? A(0) : weight;
                sum += weights.element[e];
            }
            row.put(k, weights);
        });
        sum = row_reduce(sum, [](A a, A b) { return a + b; });

        T* result = seed + (source - logits);  // float64 has no registers for another product
        for_each_class<1>(
            span, [&](auto, RowIndex k) { return row.get(k); },
            [&](auto, RowIndex k, const Vector<A, Width>& weights) {
                A shares[Width];
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    const RowIndex i = k + e;
                    shares[e] = i == top.first.index ? A(-1) : weights.element[e] / sum;
                }
                store(result + k, narrowed<T>(shares));
            });
        if (writes && threadIdx.x == 0) {
            prediction[sample] = top.first.index;
            const A lead = margin_of(top.first.value, top.second.value);
            margin[sample] = lead;
            runner_up[sample] = top.second.index;
            clear[sample] = clear_margin<T>(lead, top.first.value);
        }
    });
}

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    direction_seed_long_kernel(const T* __restrict__ logits, index_t samples, index_t classes,
                               accumulate_t<T> temperature, index_t* __restrict__ prediction,
                               accumulate_t<T>* __restrict__ margin, T* __restrict__ seed,
                               index_t* __restrict__ runner_up,
                               accumulate_t<T>* __restrict__ clear) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const T* row = logits + sample * classes;
        const Span<Width, false> span(row, count);
        const auto word_at = [&](auto, RowIndex k) { return load_word<T, Width>(row + k); };
        WeighedTop2<A, RowIndex> weighed{empty_top2<A, RowIndex>(), A(0)};
        for_each_logit<T>(span, word_at,
                          [&](const auto& next) { push(weighed, next, temperature); });
        weighed.top = in_row(span, weighed.top);
        weighed = row_reduce(
            weighed, [&](const auto& a, const auto& b) { return combine(a, b, temperature); });
        settle(weighed.top, count);
        const auto top = weighed.top;
        const A sum = seed_sum(weighed, temperature);

        T* result = seed + sample * classes;
        for_each_class<Width == 8 ? 1 : kAhead<T> / 2>(
            span, word_at, [&](auto, RowIndex k, const Word<T, Width>& word) {
                const auto vector = bit_cast<Vector<T, Width>>(word);
                A shares[Width];
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    const RowIndex i = k + e;
                    const A weight = seed_weight(widen(vector.element[e]), i, top, temperature);
                    shares[e] = i == top.first.index ? A(-1) : weight / sum;
                }
                store(result + k, narrowed<T>(shares));
            });
        if (writes && threadIdx.x == 0) {
            prediction[sample] = top.first.index;
            const A lead = margin_of(top.first.value, top.second.value);
            margin[sample] = lead;
            runner_up[sample] = top.second.index;
            clear[sample] = clear_margin<T>(lead, top.first.value);
        }
    });
}

}  // namespace

template <class T>
cudaError_t direction_seed(const T* logits, index_t samples, index_t classes, double temperature,
                           index_t* prediction, accumulate_t<T>* margin, T* seed,
                           index_t* runner_up, accumulate_t<T>* clear, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(classes, {logits, seed}, [&](auto width) {
        Grid grid = row_grid(samples, classes, width);
        const std::size_t kept = KeptRow<T, width>::bytes(classes, grid);
        const bool keeps = kept <= Device::current().shared;
        grid.shared = keeps ? kept : 0;
        return launch(
            keeps ? direction_seed_kernel<T, width> : direction_seed_long_kernel<T, width>, grid,
            stream, logits, samples, classes, static_cast<accumulate_t<T>>(temperature), prediction,
            margin, seed, runner_up, clear);
    });
}

#define INSTANTIATE(T)                                                                       \
    template cudaError_t direction_seed<T>(const T*, index_t, index_t, double, index_t*,     \
                                           accumulate_t<T>*, T*, index_t*, accumulate_t<T>*, \
                                           cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList direction_seed_kernels() {
    KernelList list = instances("direction_seed_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            direction_seed_kernel<typename decltype(type)::type, width>);
    });
    const KernelList of_long = instances("direction_seed_long_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            direction_seed_long_kernel<typename decltype(type)::type, width>);
    });
    list.insert(list.end(), of_long.begin(), of_long.end());
    return list;
}

}  // namespace rrfast::cuda
