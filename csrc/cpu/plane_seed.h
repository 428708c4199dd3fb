// plane_seed on the CPU: see csrc/kernels/plane_seed.cu.
#pragma once

#include "../math/plane_seed.h"
#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// The ranges of lanes, as they go through rows.
template <class A>
struct LaneRanges {
    A least[kLanes<A>], largest[kLanes<A>];

    RR_HD LaneRanges() {
        for (index_t j = 0; j < kLanes<A>; ++j) {
            put(j, empty_range<A>());
        }
    }
    RR_HD Range<A> lane(index_t j) const { return {least[j], largest[j]}; }
    RR_HD void put(index_t j, const Range<A>& range) {
        least[j] = range.least;
        largest[j] = range.largest;
    }
    RR_HD void take(index_t j, A v) { put(j, combine(lane(j), Range<A>{v, v})); }
};

template <class T>
RR_HD Range<accumulate_t<T>> row_range(const T* row, index_t classes) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    LaneRanges<A> ranges;
    in_blocks<lanes>(
        0, classes,
        [&](index_t k) {
            for (index_t j = 0; j < lanes; ++j) {
                ranges.take(j, widen(row[k + j]));
            }
        },
        [&](index_t k) { ranges.take(k % lanes, widen(row[k])); });
    fold_lanes<lanes>(
        [&](index_t a, index_t b) { ranges.put(a, combine(ranges.lane(a), ranges.lane(b))); });
    return ranges.lane(0);
}

template <class T>
void plane_seed(const T* logits, const index_t* prediction, const index_t* target, index_t begin,
                index_t end, index_t classes, T* seed, accumulate_t<T>* gap) {
    using A = accumulate_t<T>;
    const auto finish = [&](index_t sample, const Range<A>& range) {
        const T* row = logits + sample * classes;
        T* result = seed + sample * classes;
        const index_t y = prediction[sample], k = target[sample];
        const A unit = plane_unit<T>(range);
        std::memset(result, 0, classes * sizeof(T));
        for (const index_t i : {k, y}) {
            if (is_class(i, classes)) {
                result[i] = narrow<T>::from(plane_cotangent(i, k, y, unit));
            }
        }
        const bool known = is_class(y, classes) && is_class(k, classes);
        gap[sample] =
            known ? plane_gap<T>(widen(row[y]), widen(row[k]), unit, range.largest) : nan<A>();
    };
    Tile<A> tile;
    in_tiles<A>(
        begin, end, classes,
        [&](index_t first) {
            tile.load(logits + first * classes, classes);
            LaneRanges<A> ranges;
            for (index_t k = 0; k < classes; ++k) {
                for (index_t j = 0; j < kLanes<A>; ++j) {
                    ranges.take(j, tile.value[k][j]);
                }
            }
            for (index_t j = 0; j < kLanes<A>; ++j) {
                finish(first + j, ranges.lane(j));
            }
        },
        [&](index_t sample) { finish(sample, row_range(logits + sample * classes, classes)); });
}

}  // namespace rrfast::cpu::RRFAST_ISA
