// linear_radius on the CPU: see csrc/kernels/linear_radius.cu.
#pragma once

#include "../math/linear_radius.h"
#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
RR_HD Candidate<accumulate_t<T>> first_in_row(const T* row0, const T* row1, index_t top,
                                              index_t classes, accumulate_t<T> alpha) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    const A top0 = quarter_of_top(widen(row0[top]));
    const A top1 = quarter_of_top(widen(row1[top]));
    // The smallest step of each lane, and the block of lanes it is from.
    A step[kChunk], best[lanes];
    Position<A> at[lanes];
    for (index_t j = 0; j < lanes; ++j) {
        best[j] = infinity<A>();
        at[j] = kNoIndex<Position<A>>;
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
        const auto take = [&](index_t j, index_t i, Position<A> block) {
            Candidate<A, Position<A>> first{best[j], at[j]};
            take_first(first, {step[i], block});
            best[j] = first.value;
            at[j] = first.index;
        };
        in_blocks<lanes>(
            0, count,
            [&](index_t i) {
                const auto block = static_cast<Position<A>>((from + i) / lanes);
                for (index_t j = 0; j < lanes; ++j) {
                    take(j, i + j, block);
                }
            },
            [&](index_t i) { take(i % lanes, i, static_cast<Position<A>>((from + i) / lanes)); });
    }
    auto first = nobody<A>();
    for (index_t j = 0; j < lanes; ++j) {
        if (at[j] != kNoIndex<Position<A>>) {
            first = first_of(first, {best[j], at[j] * lanes + j});
        }
    }
    return first;
}

template <class T>
void linear_radius(const T* h0, const T* h1, const index_t* prediction, index_t begin, index_t end,
                   index_t classes, double alpha, const accumulate_t<T>* unit,
                   accumulate_t<T>* radius, index_t* rival) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    const A length = static_cast<A>(alpha);
    const auto unit_of = [unit](index_t sample) { return unit ? unit[sample] : A(1); };
    Tile<A> at0, at1;
    in_tiles<A>(
        begin, end, classes,
        [&](index_t first) {
            at0.load(h0 + first * classes, classes);
            at1.load(h1 + first * classes, classes);
            Position<A> top[lanes], at[lanes];
            A top0[lanes], top1[lanes], best[lanes];
            for (index_t j = 0; j < lanes; ++j) {
                const index_t y = prediction[first + j];
                const bool known = is_class(y, classes);
                top[j] = static_cast<Position<A>>(known ? y : 0);
                top0[j] = known ? quarter_of_top(at0.value[y][j]) : nan<A>();
                top1[j] = known ? quarter_of_top(at1.value[y][j]) : nan<A>();
                best[j] = infinity<A>();
                at[j] = kNoIndex<Position<A>>;
            }
            for (Position<A> k = 0; k < static_cast<Position<A>>(classes); ++k) {
                for (index_t j = 0; j < lanes; ++j) {
                    const A step = crossing(top0[j] - quarter(at0.value[k][j]),
                                            top1[j] - quarter(at1.value[k][j]), length);
                    Candidate<A, Position<A>> next{best[j], at[j]};
                    take_first(next, {k == top[j] ? infinity<A>() : step, k});
                    best[j] = next.value;
                    at[j] = next.index;
                }
            }
            for (index_t j = 0; j < lanes; ++j) {
                radius[first + j] = best[j] * unit_of(first + j);
                rival[first + j] = rival_of(Candidate<A, Position<A>>{best[j], at[j]});
            }
        },
        [&](index_t sample) {
            const index_t y = prediction[sample];
            const T *row0 = h0 + sample * classes, *row1 = h1 + sample * classes;
            const auto first = is_class(y, classes) ? first_in_row(row0, row1, y, classes, length)
                                                    : Candidate<A>{nan<A>(), y};
            radius[sample] = first.value * unit_of(sample);
            rival[sample] = rival_of(first);
        });
}

}  // namespace rrfast::cpu::RRFAST_ISA
