// direction_seed on the CPU: see csrc/kernels/direction_seed.cu.
#pragma once

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// Sum of the weights of classes [begin, end): in lanes, and pairwise beyond a block, because a long
// sum of small terms drifts.
template <class T, class A>
inline A sum_of_weights(const T* row, index_t begin, index_t end, const Top2<A>& top,
                        A temperature) {
    constexpr index_t lanes = kLanes<A>;
    if (end - begin > 32 * lanes) {
        const index_t middle = begin + (end - begin) / (2 * lanes) * lanes;
        return sum_of_weights(row, begin, middle, top, temperature) +
               sum_of_weights(row, middle, end, top, temperature);
    }
    A sum[lanes] = {};
    in_blocks<lanes>(
        begin, end,
        [&](index_t k) {
            for (index_t j = 0; j < lanes; ++j) {
                sum[j] += seed_weight(widen(row[k + j]), k + j, top, temperature);
            }
        },
        [&](index_t k) { sum[k % lanes] += seed_weight(widen(row[k]), k, top, temperature); });
    A total = 0;
    for (index_t j = 0; j < lanes; ++j) {
        total += sum[j];
    }
    return total;
}

template <class T>
void direction_seed(const T* logits, index_t begin, index_t end, index_t classes,
                    double temperature, index_t* prediction, accumulate_t<T>* margin, T* seed) {
    using A = accumulate_t<T>;
    const A t = static_cast<A>(temperature);
    for (index_t sample = begin; sample < end; ++sample) {
        const T* row = logits + sample * classes;
        T* out = seed + sample * classes;
        const Top2<A> top = row_top2(row, classes);
        const index_t best = top.first.index;
        const A sum =
            sum_of_weights(row, 0, best, top, t) + sum_of_weights(row, best + 1, classes, top, t);
        for (index_t k = 0; k < classes; ++k) {
            out[k] = narrow<T>::from(seed_weight(widen(row[k]), k, top, t) / sum);
        }
        out[best] = narrow<T>::from(A(-1));
        prediction[sample] = best;
        margin[sample] = top.first.value - top.second.value;
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
