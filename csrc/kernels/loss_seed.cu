// loss_seed: the loss that an attack raises, and its gradient with respect to the logits.
//     log sum_{k != c} e^h_k - h_c        and  softmax_{k != c} h_k, -1 at c       (log-odds)
//     (h_a - h_y) / spread                and  1 at a, -1 at y, and the spread's   (margins)
// Eager torch takes some ten passes for the first and thirty for a ratio. Here B*K elements are
// read and B*K written. For the log-odds a row stays in shared memory, as in direction_seed.cu,
// with each exponential computed once; a row too long for that is read three times. Of the margins
// a row is read two or three times and, for its third and fourth largest logits, once more: from
// the caches, as it has no exponentials that take longer.
#include "../math/loss_seed.h"
#include "kept_row.cuh"
#include "launch.h"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    loss_seed_kernel(const T* __restrict__ logits, const index_t* __restrict__ labels,
                     index_t samples, index_t classes, AttackLoss kind,
                     accumulate_t<T>* __restrict__ loss, T* __restrict__ seed) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const T* source = logits + sample * classes;
        const Span<Width, false> span(source, count);
        const KeptRow<T, Width> row(classes);
        row.fetch(source, span);
        const auto word_at = [&](auto, RowIndex k) { return row.word_at(k); };
        const auto top = row_top2<T>(span, word_at);
        const auto odds =
            odds_of(kind, top, named_class<T, RowIndex>(source, labels, sample, classes));

        A sum = 0;
        for_each_class<1>(span, word_at, [&](auto, RowIndex k, const Word<T, Width>& word) {
            const auto vector = bit_cast<Vector<T, Width>>(word);
            Vector<A, Width> weights;
#pragma unroll
            for (int e = 0; e < Width; ++e) {
                const A logit = widen(vector.element[e]);
                const A weight = k + e == odds.of.index ? A(0) : odds_weight(logit, odds.level);
                weights.element[e] = unless_infinite(weight, logit);
                sum += weight;
            }
            row.put(k, weights);
        });
        const auto end = odds_seed(kind, odds, row_reduce(sum, [](A a, A b) { return a + b; }));
        if (writes && threadIdx.x == 0) {
            loss[sample] = end.loss;
        }

        T* result = seed + (source - logits);  // float64 has no registers for another product
        for_each_class<1>(
            span, [&](auto, RowIndex k) { return row.get(k); },
            [&](auto, RowIndex k, const Vector<A, Width>& weights) {
                A shares[Width];
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    shares[e] =
                        k + e == odds.of.index ? end.at_own : weights.element[e] / end.divisor;
                }
                store(result + k, narrowed<T>(shares));
            });
    });
}

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    loss_seed_long_kernel(const T* __restrict__ logits, const index_t* __restrict__ labels,
                          index_t samples, index_t classes, AttackLoss kind,
                          accumulate_t<T>* __restrict__ loss, T* __restrict__ seed) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const T* row = logits + sample * classes;
        const Span<Width, false> span(row, count);
        const auto word_at = [&](auto, RowIndex k) { return load_word<T, Width>(row + k); };
        const auto top = row_top2<T>(span, word_at);
        const auto odds =
            odds_of(kind, top, named_class<T, RowIndex>(row, labels, sample, classes));

        A sum = 0;
        constexpr int few = sizeof(T) == 8 ? 1 : Width;  // two of float64 take too many registers
        for_each_class<1>(
            Span<few, false>(row, count), [&](auto, RowIndex k) { return load<T, few>(row + k); },
            [&](auto, RowIndex k, const Vector<T, few>& vector) {
#pragma unroll
                for (int e = 0; e < few; ++e) {
                    const A weight = odds_weight(widen(vector.element[e]), odds.level);
                    sum += k + e == odds.of.index ? A(0) : weight;
                }
            });
        const auto end = odds_seed(kind, odds, row_reduce(sum, [](A a, A b) { return a + b; }));
        if (writes && threadIdx.x == 0) {
            loss[sample] = end.loss;
        }

        T* result = seed + (row - logits);
        for_each_class<Width == 8 ? 1 : kAhead<T> / 2>(
            span, word_at, [&](auto, RowIndex k, const Word<T, Width>& word) {
                const auto vector = bit_cast<Vector<T, Width>>(word);
                A shares[Width];
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    const A logit = widen(vector.element[e]);
                    const A weight = unless_infinite(odds_weight(logit, odds.level), logit);
                    shares[e] = k + e == odds.of.index ? end.at_own : weight / end.divisor;
                }
                store(result + k, narrowed<T>(shares));
            });
    });
}

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    loss_seed_margin_kernel(const T* __restrict__ logits, const index_t* __restrict__ labels,
                            const index_t* __restrict__ targets, index_t samples, index_t classes,
                            AttackLoss kind, accumulate_t<T>* __restrict__ loss,
                            T* __restrict__ seed) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const T* row = logits + sample * classes;
        const Span<Width, false> span(row, count);
        const auto word_at = [&](auto, RowIndex k) { return load_word<T, Width>(row + k); };
        const auto top = row_top2<T>(span, word_at);
        auto next = empty_top2<A, RowIndex>();
        if (is_ratio(kind)) {
            for_each_class<1>(span, word_at, [&](auto, RowIndex k, const Word<T, Width>& word) {
                const auto vector = bit_cast<Vector<T, Width>>(word);
#pragma unroll
                for (int e = 0; e < Width; ++e) {
                    const RowIndex i = k + e;
                    const bool seen = i == top.first.index || i == top.second.index;
                    push(next, {seen ? -infinity<A>() : widen(vector.element[e]), i});
                }
            });
            next = row_reduce(next, [](const auto& a, const auto& b) { return combine(a, b); });
        }
        const auto label = named_class<T, RowIndex>(row, labels, sample, classes);
        const A level = margin_level(kind, top, label.index);
        A equals = 0;
        for_each_class<1>(span, word_at, [&](auto, RowIndex k, const Word<T, Width>& word) {
            const auto vector = bit_cast<Vector<T, Width>>(word);
#pragma unroll
            for (int e = 0; e < Width; ++e) {
                const bool equal = capped(widen(vector.element[e])) == level;
                equals += static_cast<A>(equal & (k + e != label.index));
            }
        });
        equals = row_reduce(equals, [](A a, A b) { return a + b; });
        const auto found =
            margin_seed(kind, top, next, label,
                        named_class<T, RowIndex>(row, targets, sample, classes), equals);
        if (writes && threadIdx.x == 0) {
            loss[sample] = found.loss;
        }

        T* result = seed + (row - logits);
        for_each_class<1>(span, word_at, [&](auto, RowIndex k, const Word<T, Width>& word) {
            const auto vector = bit_cast<Vector<T, Width>>(word);
            A shares[Width];
#pragma unroll
            for (int e = 0; e < Width; ++e) {
                shares[e] = found.at(k + e, widen(vector.element[e]));
            }
            store(result + k, narrowed<T>(shares));
        });
    });
}

}  // namespace

template <class T>
cudaError_t loss_seed(const T* logits, const index_t* labels, const index_t* targets,
                      index_t samples, index_t classes, AttackLoss kind, accumulate_t<T>* loss,
                      T* seed, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(classes, {logits, seed}, [&](auto width) {
        Grid grid = row_grid(samples, classes, width);
        if (!is_odds(kind)) {
            return launch(loss_seed_margin_kernel<T, width>, grid, stream, logits, labels, targets,
                          samples, classes, kind, loss, seed);
        }
        const std::size_t kept = KeptRow<T, width>::bytes(classes, grid);
        const bool keeps = kept <= Device::current().shared;
        grid.shared = keeps ? kept : 0;
        return launch(keeps ? loss_seed_kernel<T, width> : loss_seed_long_kernel<T, width>, grid,
                      stream, logits, labels, samples, classes, kind, loss, seed);
    });
}

#define INSTANTIATE(T)                                                                            \
    template cudaError_t loss_seed<T>(const T*, const index_t*, const index_t*, index_t, index_t, \
                                      AttackLoss, accumulate_t<T>*, T*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList loss_seed_kernels() {
    KernelList list = instances("loss_seed_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            loss_seed_kernel<typename decltype(type)::type, width>);
    });
    const KernelList of_long = instances("loss_seed_long_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            loss_seed_long_kernel<typename decltype(type)::type, width>);
    });
    const KernelList of_margins = instances("loss_seed_margin_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            loss_seed_margin_kernel<typename decltype(type)::type, width>);
    });
    list.insert(list.end(), of_long.begin(), of_long.end());
    list.insert(list.end(), of_margins.begin(), of_margins.end());
    return list;
}

}  // namespace rrfast::cuda
