// direction_seed on the CPU: see csrc/kernels/direction_seed.cu.
#pragma once

#include <type_traits>

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// Sum of value(k) for k in [begin, end): in lanes, and pairwise beyond a block, because a long sum
// of small terms drifts.
template <class A, class Value>
inline A sum_of(index_t begin, index_t end, const Value& value) {
    constexpr index_t lanes = kLanes<A>;
    if (end - begin > 32 * lanes) {
        const index_t middle = begin + (end - begin) / (2 * lanes) * lanes;
        return sum_of<A>(begin, middle, value) + sum_of<A>(middle, end, value);
    }
    if (end - begin < lanes) {
        A total = 0;
        for (index_t k = begin; k < end; ++k) {
            total += value(k);
        }
        return total;
    }
    A sum[lanes] = {};
    in_blocks<lanes>(
        begin, end,
        [&](index_t k) {
            for (index_t j = 0; j < lanes; ++j) {
                sum[j] += value(k + j);
            }
        },
        [&](index_t k) { sum[k % lanes] += value(k); });
    fold_lanes<lanes>([&](index_t a, index_t b) { sum[a] += sum[b]; });
    return sum[0];
}

template <class T>
void direction_seed(const T* logits, index_t begin, index_t end, index_t classes,
                    double temperature, index_t* prediction, accumulate_t<T>* margin, T* seed) {
    using A = accumulate_t<T>;
    const A t = static_cast<A>(temperature);
    for (index_t sample = begin; sample < end; ++sample) {
        const T* __restrict__ row = logits + sample * classes;
        T* __restrict__ out = seed + sample * classes;
        const Top2<A> top = row_top2(row, classes);
        const index_t best = top.first.index;
        const auto weight = [&](index_t k) { return seed_weight(widen(row[k]), k, top, t); };
        // An exponential costs more than all the rest, so each is taken once and kept: in the
        // result where that has the precision, on the stack where a row fits there.
        const auto keep = [&](A* kept) {
            for (index_t k = 0; k < classes; ++k) {
                kept[k] = weight(k);
            }
            kept[best] = A(0);
            const A sum = sum_of<A>(0, classes, [&](index_t k) { return kept[k]; });
            for (index_t k = 0; k < classes; ++k) {
                kept[k] /= sum;
            }
        };
        if constexpr (std::is_same_v<T, A>) {
            keep(out);
        } else if (classes <= kRow) {
            A kept[kRow];
            keep(kept);
            for (index_t k = 0; k < classes; ++k) {
                out[k] = narrow<T>::from(kept[k]);
            }
        } else {
            const A sum = sum_of<A>(0, best, weight) + sum_of<A>(best + 1, classes, weight);
            for (index_t k = 0; k < classes; ++k) {
                out[k] = narrow<T>::from(weight(k) / sum);
            }
        }
        out[best] = narrow<T>::from(A(-1));
        prediction[sample] = best;
        margin[sample] = top.first.value - top.second.value;
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
