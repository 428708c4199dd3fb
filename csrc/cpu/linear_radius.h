// linear_radius on the CPU: see csrc/kernels/linear_radius.cu.
#pragma once

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// The least crossing of classes [begin, end).
template <class T, class A>
RR_HD A least_crossing(const T* row0, const T* row1, index_t begin, index_t end, A top0, A top1,
                       A alpha) {
    constexpr index_t lanes = kLanes<A>;
    A best[lanes];
    for (index_t j = 0; j < lanes; ++j) {
        best[j] = infinity<A>();
    }
    const auto take = [&](index_t j, index_t k) {
        best[j] = least(best[j], crossing(top0 - widen(row0[k]), top1 - widen(row1[k]), alpha));
    };
    in_blocks<lanes>(
        begin, end,
        [&](index_t k) {
            for (index_t j = 0; j < lanes; ++j) {
                take(j, k + j);
            }
        },
        [&](index_t k) { take(k % lanes, k); });
    A result = best[0];
    for (index_t j = 1; j < lanes; ++j) {
        result = least(result, best[j]);
    }
    return result;
}

template <class T>
void linear_radius(const T* h0, const T* h1, const index_t* prediction, index_t begin, index_t end,
                   index_t classes, double alpha, accumulate_t<T>* radius) {
    using A = accumulate_t<T>;
    for (index_t sample = begin; sample < end; ++sample) {
        const index_t top = prediction[sample];
        if (top < 0 || top >= classes) {
            radius[sample] = nan<A>();
            continue;
        }
        const T* row0 = h0 + sample * classes;
        const T* row1 = h1 + sample * classes;
        const A top0 = widen(row0[top]);
        const A top1 = widen(row1[top]);
        const A a = static_cast<A>(alpha);
        radius[sample] = least(least_crossing(row0, row1, 0, top, top0, top1, a),
                               least_crossing(row0, row1, top + 1, classes, top0, top1, a));
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
