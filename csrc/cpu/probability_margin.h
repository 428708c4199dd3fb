// probability_margin on the CPU: see csrc/kernels/probability_margin.cu.
#pragma once

#include "../math/probability_margin.h"
#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// Separate sums for every lane.
template <class A>
struct LaneRivals {
    A best[kLanes<A>], rest[kLanes<A>], spread[kLanes<A>], squares[kLanes<A>];

    RR_HD LaneRivals() {
        for (index_t j = 0; j < kLanes<A>; ++j) {
            put(j, no_rivals<A>());
        }
    }
    RR_HD Rivals<A> at(index_t j) const { return {best[j], rest[j], spread[j], squares[j]}; }
    RR_HD void put(index_t j, const Rivals<A>& rivals) {
        best[j] = rivals.best;
        rest[j] = rivals.rest;
        spread[j] = rivals.spread;
        squares[j] = rivals.squares;
    }
    RR_HD void merge(index_t j, const Rivals<A>& other) { put(j, combine(at(j), other)); }
};

// All classes of a row except the label. Each part of the row has its own lanes, so that no sum has
// more terms than a part has vectors.
template <class T>
inline Rivals<accumulate_t<T>> row_rivals(const T* row, index_t label, index_t classes) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>, part = 32 * lanes;
    A logit[part];
    auto rivals = no_rivals<A>();
    for (index_t from = 0; from < classes; from += part) {
        const index_t count = classes - from < part ? classes - from : part;
        const index_t filled = (count + lanes - 1) / lanes * lanes;
        for (index_t i = 0; i < count; ++i) {
            logit[i] = widen(row[from + i]);
        }
        for (index_t i = count; i < filled; ++i) {
            logit[i] = -infinity<A>();
        }
        if (from <= label && label < from + count) {
            logit[label - from] = -infinity<A>();
        }
        LaneRivals<A> own;
        for (index_t j = 0; j < lanes; ++j) {
            own.put(j, one_rival(logit[j]));
        }
        for (index_t i = lanes; i < filled; i += lanes) {
            for (index_t j = 0; j < lanes; ++j) {
                own.merge(j, one_rival(logit[i + j]));
            }
        }
        fold_lanes<lanes>([&](index_t a, index_t b) { own.merge(a, own.at(b)); });
        rivals = combine(rivals, own.at(0));
    }
    return rivals;
}

template <class T>
void probability_margin(const T* logits, const index_t* labels, index_t begin, index_t end,
                        index_t classes, accumulate_t<T>* margin, accumulate_t<T>* top2_ratio,
                        accumulate_t<T>* similarity, accumulate_t<T>* entropy) {
    using A = accumulate_t<T>;
    const auto put = [&](index_t sample, const ProbabilityMargin<A>& result) {
        margin[sample] = result.margin;
        top2_ratio[sample] = result.top2_ratio;
        similarity[sample] = result.similarity;
        entropy[sample] = result.entropy;
    };
    if (classes >= kShortRow<A>) {
        for (index_t sample = begin; sample < end; ++sample) {
            const T* row = logits + sample * classes;
            const index_t y = labels[sample];
            put(sample, probability_margin_of(is_class(y, classes) ? widen(row[y]) : nan<A>(),
                                              row_rivals(row, y, classes)));
        }
        return;
    }
    // The remaining rows form a tile too; otherwise their sums would be in another order.
    constexpr index_t lanes = kLanes<A>, vector = 32 / sizeof(A);
    Tile<A> tile;
    for (index_t first = begin; first < end; first += lanes) {
        const index_t count = end - first < lanes ? end - first : lanes;
        // Lanes without a row are left out.
        const index_t filled = (count + vector - 1) / vector * vector;
        tile.load(logits + first * classes, classes, count);
        A label[lanes];
        for (index_t j = 0; j < count; ++j) {
            const index_t y = labels[first + j];
            label[j] = nan<A>();
            if (is_class(y, classes)) {
                label[j] = tile.value[y][j];
                tile.value[y][j] = -infinity<A>();
            }
        }
        LaneRivals<A> rivals;
        for (index_t k = 0; k < classes; ++k) {
            for (index_t j = 0; j < filled; ++j) {
                rivals.merge(j, one_rival(tile.value[k][j]));
            }
        }
        for (index_t j = 0; j < count; ++j) {
            put(first + j, probability_margin_of(label[j], rivals.at(j)));
        }
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
