// probability_margin on the CPU: see csrc/kernels/probability_margin.cu.
#pragma once

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// All classes of a row but the label. A part of the row at a time goes through lanes of its own, so
// that no sum is longer than a part has vectors.
template <index_t Lanes, class T>
inline Rivals<accumulate_t<T>> rivals_in_lanes(const T* row, index_t label, index_t classes) {
    using A = accumulate_t<T>;
    constexpr index_t part = 32 * Lanes;
    A logit[part], best[Lanes], rest[Lanes], spread[Lanes], squares[Lanes];
    const auto merge = [&](index_t j, const Rivals<A>& other) {
        const auto both = combine(Rivals<A>{best[j], rest[j], spread[j], squares[j]}, other);
        best[j] = both.best;
        rest[j] = both.rest;
        spread[j] = both.spread;
        squares[j] = both.squares;
    };
    auto rivals = no_rivals<A>();
    for (index_t from = 0; from < classes; from += part) {
        const index_t count = classes - from < part ? classes - from : part;
        const index_t filled = (count + Lanes - 1) / Lanes * Lanes;
        for (index_t i = 0; i < count; ++i) {
            logit[i] = widen(row[from + i]);
        }
        for (index_t i = count; i < filled; ++i) {
            logit[i] = -infinity<A>();
        }
        if (from <= label && label < from + count) {
            logit[label - from] = -infinity<A>();
        }
        for (index_t j = 0; j < Lanes; ++j) {
            best[j] = logit[j];
            rest[j] = spread[j] = squares[j] = A(0);
        }
        for (index_t i = Lanes; i < filled; i += Lanes) {
            for (index_t j = 0; j < Lanes; ++j) {
                merge(j, one_rival(logit[i + j]));
            }
        }
        fold_lanes<Lanes>(
            [&](index_t a, index_t b) { merge(a, {best[b], rest[b], spread[b], squares[b]}); });
        rivals = combine(rivals, {best[0], rest[0], spread[0], squares[0]});
    }
    return rivals;
}

template <class T>
void probability_margin(const T* logits, const index_t* labels, index_t begin, index_t end,
                        index_t classes, accumulate_t<T>* margin, accumulate_t<T>* top2_ratio,
                        accumulate_t<T>* similarity, accumulate_t<T>* entropy) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    for (index_t sample = begin; sample < end; ++sample) {
        const T* row = logits + sample * classes;
        const index_t label = labels[sample];
        const bool known = label >= 0 && label < classes;
        // A short row would leave most lanes to the padding.
        const auto rivals = classes < lanes / 2 ? rivals_in_lanes<lanes / 4>(row, label, classes)
                                                : rivals_in_lanes<lanes>(row, label, classes);
        const auto result = probability_margin_of(known ? widen(row[label]) : nan<A>(), rivals);
        margin[sample] = result.margin;
        top2_ratio[sample] = result.top2_ratio;
        similarity[sample] = result.similarity;
        entropy[sample] = result.entropy;
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
