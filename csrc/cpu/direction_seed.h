// direction_seed on the CPU: see csrc/kernels/direction_seed.cu.
#pragma once

#include <type_traits>

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// Sum of value(k) for k in [begin, end): in order if they are few, else in lanes, and pairwise
// beyond a block, because a long sum of small terms drifts.
template <class A, class Value>
inline A sum_of(index_t begin, index_t end, const Value& value) {
    constexpr index_t lanes = kLanes<A>;
    if (end - begin > 32 * lanes) {
        const index_t middle = begin + (end - begin) / (2 * lanes) * lanes;
        return sum_of<A>(begin, middle, value) + sum_of<A>(middle, end, value);
    }
    if (end - begin < kShortRow<A>) {
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
RR_HD void seed_of_row(const T* __restrict__ row, index_t classes, accumulate_t<T> temperature,
                       index_t* prediction, accumulate_t<T>* margin, T* __restrict__ seed) {
    using A = accumulate_t<T>;
    const Top2<A> top = row_top2(row, classes);
    const index_t best = top.first.index;
    const auto weight = [&](index_t k) { return seed_weight(widen(row[k]), k, top, temperature); };
    // An exponential costs more than all the rest, so each is taken once and kept: in the result
    // where that has the precision, on the stack where a row fits there.
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
        keep(seed);
    } else if (classes <= kRow) {
        A kept[kRow];
        keep(kept);
        for (index_t k = 0; k < classes; ++k) {
            seed[k] = narrow<T>::from(kept[k]);
        }
    } else {
        const A sum = sum_of<A>(0, best, weight) + sum_of<A>(best + 1, classes, weight);
        for (index_t k = 0; k < classes; ++k) {
            seed[k] = narrow<T>::from(weight(k) / sum);
        }
    }
    seed[best] = narrow<T>::from(A(-1));
    *prediction = best;
    *margin = top.first.value - top.second.value;
}

template <class T>
RR_HD void seeds_of_tile(const T* rows, index_t classes, accumulate_t<T> temperature,
                         index_t* prediction, accumulate_t<T>* margin, T* seeds) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    const auto number = static_cast<Position<A>>(classes);
    Tile<A> tile;
    tile.load(rows, classes);
    const TileTop2<A> top(tile, classes);
    A sum[lanes] = {};
    for (Position<A> k = 0; k < number; ++k) {
        for (index_t j = 0; j < lanes; ++j) {
            const A weight = seed_weight(tile.value[k][j], k, top.row(j), temperature);
            tile.value[k][j] = k == top.first_at[j] ? A(0) : weight;
            sum[j] += tile.value[k][j];
        }
    }
    for (Position<A> k = 0; k < number; ++k) {
        for (index_t j = 0; j < lanes; ++j) {
            const A share = tile.value[k][j] / sum[j];
            tile.value[k][j] = k == top.first_at[j] ? A(-1) : share;
        }
    }
    tile.store(seeds, classes);
    for (index_t j = 0; j < lanes; ++j) {
        prediction[j] = top.first_at[j];
        margin[j] = top.first[j] - top.second[j];
    }
}

template <class T>
void direction_seed(const T* logits, index_t begin, index_t end, index_t classes,
                    double temperature, index_t* prediction, accumulate_t<T>* margin, T* seed) {
    using A = accumulate_t<T>;
    const auto t = static_cast<A>(temperature);
    in_tiles<A>(
        begin, end, classes,
        [&](index_t first) {
            seeds_of_tile(logits + first * classes, classes, t, prediction + first, margin + first,
                          seed + first * classes);
        },
        [&](index_t sample) {
            seed_of_row(logits + sample * classes, classes, t, prediction + sample, margin + sample,
                        seed + sample * classes);
        });
}

}  // namespace rrfast::cpu::RRFAST_ISA
