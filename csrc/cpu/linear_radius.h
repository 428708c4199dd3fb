// linear_radius on the CPU: see csrc/kernels/linear_radius.cu.
#pragma once

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
RR_HD accumulate_t<T> row_radius(const T* row0, const T* row1, index_t top, index_t classes,
                                 accumulate_t<T> alpha) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    const A top0 = quarter_of_top(widen(row0[top]));
    const A top1 = quarter_of_top(widen(row1[top]));
    A step[kChunk], best[lanes];
    for (index_t j = 0; j < lanes; ++j) {
        best[j] = infinity<A>();
    }
    for (index_t from = 0; from < classes; from += kChunk) {
        const index_t count = classes - from < kChunk ? classes - from : kChunk;
        for (index_t i = 0; i < count; ++i) {
            step[i] = crossing(top0 - quarter(widen(row0[from + i])),
                               top1 - quarter(widen(row1[from + i])), alpha);
        }
        if (from <= top && top < from + count) {
            step[top - from] = infinity<A>();
        }
        const auto take = [&](index_t j, index_t i) { best[j] = least(best[j], step[i]); };
        in_blocks<lanes>(
            0, count,
            [&](index_t i) {
                for (index_t j = 0; j < lanes; ++j) {
                    take(j, i + j);
                }
            },
            [&](index_t i) { take(i % lanes, i); });
    }
    fold_lanes<lanes>([&](index_t a, index_t b) { best[a] = least(best[a], best[b]); });
    return best[0];
}

template <class T>
void linear_radius(const T* h0, const T* h1, const index_t* prediction, index_t begin, index_t end,
                   index_t classes, double alpha, accumulate_t<T>* radius) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    const A length = static_cast<A>(alpha);
    Tile<A> at0, at1;
    in_tiles<A>(
        begin, end, classes,
        [&](index_t first) {
            at0.load(h0 + first * classes, classes);
            at1.load(h1 + first * classes, classes);
            Position<A> top[lanes];
            A top0[lanes], top1[lanes], best[lanes];
            for (index_t j = 0; j < lanes; ++j) {
                const index_t y = prediction[first + j];
                const bool known = is_class(y, classes);
                top[j] = static_cast<Position<A>>(known ? y : 0);
                top0[j] = known ? quarter_of_top(at0.value[y][j]) : nan<A>();
                top1[j] = known ? quarter_of_top(at1.value[y][j]) : nan<A>();
                best[j] = infinity<A>();
            }
            for (Position<A> k = 0; k < static_cast<Position<A>>(classes); ++k) {
                for (index_t j = 0; j < lanes; ++j) {
                    const A step = crossing(top0[j] - quarter(at0.value[k][j]),
                                            top1[j] - quarter(at1.value[k][j]), length);
                    best[j] = least(best[j], k == top[j] ? infinity<A>() : step);
                }
            }
            for (index_t j = 0; j < lanes; ++j) {
                radius[first + j] = best[j];
            }
        },
        [&](index_t sample) {
            const index_t y = prediction[sample];
            radius[sample] =
                is_class(y, classes)
                    ? row_radius(h0 + sample * classes, h1 + sample * classes, y, classes, length)
                    : nan<A>();
        });
}

}  // namespace rrfast::cpu::RRFAST_ISA
