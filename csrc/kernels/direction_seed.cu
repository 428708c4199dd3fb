// direction_seed: prediction, margin, runner-up and the cotangent of the input gradient from one
// visit to a row of logits (errata 4).
//     seed_k = softmax over k != prediction of h_k / T,    seed_prediction = -1
// Eager torch runs argmax, gather, a masked fill, a softmax and a scatter: some ten passes. Here
// the row is read from memory once, stays in cache for the sum and the result, and is written to
// memory once, while the cache holds the rows under way: B*K elements each way. The first visit has
// four vectors of a thread under way; the others wait for the cache, and need registers for
// exponentials.
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    direction_seed_kernel(const T* __restrict__ logits, index_t samples, index_t classes,
                          accumulate_t<T> temperature, index_t* __restrict__ prediction,
                          accumulate_t<T>* __restrict__ margin, T* __restrict__ seed,
                          index_t* __restrict__ runner_up) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, index_t count, bool writes) {
        const T* row = logits + sample * classes;

        const auto top = row_top2<Width>(row, count);
        const auto weight_of = [&](A logit, index_t k) {
            return k == top.first.index
                       ? A(0)
                       : seed_weight(logit, static_cast<RowIndex>(k), top, temperature);
        };

        // An exponential costs more than all the rest, so each is taken once and kept in the
        // result, where that has the precision.
        constexpr bool kept = std::is_same_v<T, A>;
        T* result = seed + sample * classes;
        // As far as registers go: these visits are to the cache.
        constexpr int ahead = Width == 8 ? 1 : kAhead<T> / 2;
        A sum = 0;
        for_each_class<Width, ahead>(
            count, [&](index_t k) { return load_word<T, Width>(row + k); },
            [&](index_t k, const Word<T, Width>& word) {
                const auto vector = bit_cast<Vector<T, Width>>(word);
                A weights[Width];
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    weights[e] = weight_of(widen(vector.element[e]), k + e);
                    sum += weights[e];
                }
                if constexpr (kept) {
                    store(result + k, narrowed<T>(weights));
                }
            });
        sum = row_reduce(sum, [](A a, A b) { return a + b; });

        for_each_class<Width, ahead>(
            count,
            [&](index_t k) {
                return kept ? load_own<T, Width>(result + k) : load<T, Width>(row + k);
            },
            [&](index_t k, const Vector<T, Width>& vector) {
                A shares[Width];
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    const A value = widen(vector.element[e]);
                    const A weight = kept ? value : weight_of(value, k + e);
                    shares[e] = k + e == top.first.index ? A(-1) : weight / sum;
                }
                store(result + k, narrowed<T>(shares));
            });

        if (writes && threadIdx.x == 0) {
            prediction[sample] = top.first.index;
            margin[sample] = margin_of(top.first.value, top.second.value);
            runner_up[sample] = top.second.index;
        }
    });
}

}  // namespace

template <class T>
cudaError_t direction_seed(const T* logits, index_t samples, index_t classes, double temperature,
                           index_t* prediction, accumulate_t<T>* margin, T* seed,
                           index_t* runner_up, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(classes, {logits, seed}, nullptr, [&](auto width) {
        const RowGrid grid(samples, classes, width);
        return launch(direction_seed_kernel<T, width>, grid.blocks, grid.threads, stream, logits,
                      samples, classes, static_cast<accumulate_t<T>>(temperature), prediction,
                      margin, seed, runner_up);
    });
}

#define INSTANTIATE(T)                                                                   \
    template cudaError_t direction_seed<T>(const T*, index_t, index_t, double, index_t*, \
                                           accumulate_t<T>*, T*, index_t*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList direction_seed_kernels() {
    return instances("direction_seed_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            direction_seed_kernel<typename decltype(type)::type, width>);
    });
}

}  // namespace rrfast::cuda
