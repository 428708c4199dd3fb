// Reductions over rows of logits. Partial results live in fixed lanes, so that the compiler
// vectorises them without being allowed to reorder floating point, and every instruction set gives
// the same bits.
#pragma once

#include <type_traits>

#include "../math/top2.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class A>
constexpr index_t kLanes = 128 / sizeof(A);

// Values that a row kernel keeps on the stack, so that they are computed in a separate loop without
// a reduction.
constexpr index_t kChunk = 256;

// Calls full(k) for every whole block of Block elements in [begin, end), then single(k) for each
// one that is left over.
template <index_t Block, class Full, class Single>
RR_HD void in_blocks(index_t begin, index_t end, const Full& full, const Single& single) {
    index_t k = begin;
    for (; k + Block <= end; k += Block) {
        full(k);
    }
    for (; k < end; ++k) {
        single(k);
    }
}

// Calls fold(j, j + n / 2), (j, j + n / 4), … until lane 0 has combined all of them. It is a tree,
// because in a chain each step would wait for the previous one.
template <index_t n, class Fold>
RR_HD void fold_lanes(const Fold& fold) {
    if constexpr (n > 1) {
        for (index_t j = 0; j < n / 2; ++j) {
            fold(j, j + n / 2);
        }
        fold_lanes<n / 2>(fold);
    }
}

// The first k >= from with row[k] == value, which must exist.
template <class T, class A>
RR_HD index_t first_position(const T* row, index_t from, index_t classes, A value) {
    constexpr index_t block = kLanes<A>;
    index_t k = from;
    for (; k + block <= classes; k += block) {
        int found = 0;
        for (index_t j = 0; j < block; ++j) {
            found |= widen(row[k + j]) == value;
        }
        if (found) {
            break;
        }
    }
    while (widen(row[k]) != value) {
        ++k;
    }
    return k;
}

// The two best classes, class by class: for short rows, and for rows with NaN, which comparisons
// alone do not rank.
template <class T>
RR_HD Top2<accumulate_t<T>> scan_top2(const T* row, index_t classes) {
    auto top = empty_top2<accumulate_t<T>>();
    for (index_t k = 0; k < classes; ++k) {
        push(top, {widen(row[k]), k});
    }
    settle(top, classes);
    return top;
}

// The two best classes of a row: their values in one pass over memory, then their positions, from
// cache.
template <class T>
inline Top2<accumulate_t<T>> row_top2(const T* row, index_t classes) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    if (classes < 2 * lanes) {
        return scan_top2(row, classes);
    }
    A first[lanes], second[lanes];
    int undefined[lanes];
    for (index_t j = 0; j < lanes; ++j) {
        first[j] = second[j] = -infinity<A>();
        undefined[j] = 0;
    }
    const auto take = [&](index_t j, A v) {
        const A beaten = v < first[j] ? v : first[j];
        first[j] = v > first[j] ? v : first[j];
        second[j] = beaten > second[j] ? beaten : second[j];
        undefined[j] |= is_nan(v);
    };
    in_blocks<lanes>(
        0, classes,
        [&](index_t k) {
            for (index_t j = 0; j < lanes; ++j) {
                take(j, widen(row[k + j]));
            }
        },
        [&](index_t k) { take(k % lanes, widen(row[k])); });
    fold_lanes<lanes>([&](index_t a, index_t b) {
        const A beaten = first[b] < first[a] ? first[b] : first[a];
        const A better = second[b] > second[a] ? second[b] : second[a];
        first[a] = first[b] > first[a] ? first[b] : first[a];
        second[a] = beaten > better ? beaten : better;
        undefined[a] |= undefined[b];
    });
    const A best = first[0], next = second[0];
    if (undefined[0]) {
        return scan_top2(row, classes);
    }
    const index_t at = first_position(row, 0, classes, best);
    return {{best, at}, {next, first_position(row, next == best ? at + 1 : 0, classes, next)}};
}

// Rows with fewer classes cost more to fold than to read. If there are as many rows as lanes, they
// form a tile with one row per lane.
template <class A>
constexpr index_t kShortRow = 4 * kLanes<A>;

// Few terms are added in order, more in lanes, and blocks pairwise, because rounding errors grow in
// a long sum of small terms.
template <class A>
inline A sum_of(const A* value, index_t count) {
    constexpr index_t lanes = kLanes<A>;
    if (count > 32 * lanes) {
        const index_t half = count / (2 * lanes) * lanes;
        return sum_of(value, half) + sum_of(value + half, count - half);
    }
    if (count < kShortRow<A>) {
        A total = 0;
        for (index_t k = 0; k < count; ++k) {
            total += value[k];
        }
        return total;
    }
    A sum[lanes] = {};
    in_blocks<lanes>(
        0, count,
        [&](index_t k) {
            for (index_t j = 0; j < lanes; ++j) {
                sum[j] += value[k + j];
            }
        },
        [&](index_t k) { sum[k % lanes] += value[k]; });
    fold_lanes<lanes>([&](index_t a, index_t b) { sum[a] += sum[b]; });
    return sum[0];
}

// Calls full(first) for kLanes short rows at a time, single(sample) for each one that is left over
// and for long rows.
template <class A, class Full, class Single>
RR_HD void in_tiles(index_t begin, index_t end, index_t classes, const Full& full,
                    const Single& single) {
    const index_t first_short = classes < kShortRow<A> ? begin : end;
    for (index_t sample = begin; sample < first_short; ++sample) {
        single(sample);
    }
    in_blocks<kLanes<A>>(first_short, end, full, single);
}

// For each class, one number of every row.
template <class A>
struct Tile {
    A value[kShortRow<A>][kLanes<A>];

    // From neighbouring rows. If there are fewer rows than lanes, the last row fills the remaining
    // lanes.
    template <class T>
    RR_HD void load(const T* rows, index_t classes, index_t count = kLanes<A>) {
        if constexpr (std::is_same_v<T, A>) {
            for (index_t j = 0; j < kLanes<A>; ++j) {
                const A* row = rows + (j < count ? j : count - 1) * classes;
                for (index_t k = 0; k < classes; ++k) {
                    value[k][j] = row[k];
                }
            }
        } else {
            A wide[kShortRow<A> * kLanes<A>];
            for (index_t i = 0; i < count * classes; ++i) {
                wide[i] = widen(rows[i]);
            }
            load(wide, classes, count);
        }
    }
    template <class T>
    RR_HD void store(T* rows, index_t classes) const {
        if constexpr (std::is_same_v<T, A>) {
            for (index_t j = 0; j < kLanes<A>; ++j) {
                for (index_t k = 0; k < classes; ++k) {
                    rows[j * classes + k] = value[k][j];
                }
            }
        } else {
            A wide[kShortRow<A> * kLanes<A>];
            store(wide, classes);
            for (index_t i = 0; i < kLanes<A> * classes; ++i) {
                rows[i] = narrow<T>::from(wide[i]);
            }
        }
    }
};

// The class index for a short row, as wide as a logit, so that both fill the same lanes.
template <class A>
using Position = std::conditional_t<sizeof(A) == 4, std::int32_t, std::int64_t>;

// The two best classes of every row of a tile.
template <class A>
struct TileTop2 {
    A first[kLanes<A>], second[kLanes<A>];
    Position<A> first_at[kLanes<A>], second_at[kLanes<A>];

    RR_HD TileTop2(const Tile<A>& tile, index_t classes) {
        for (index_t j = 0; j < kLanes<A>; ++j) {
            put(j, empty_top2<A, Position<A>>());
        }
        for (index_t k = 0; k < classes; ++k) {
            for (index_t j = 0; j < kLanes<A>; ++j) {
                auto top = row(j);
                push(top, {tile.value[k][j], static_cast<Position<A>>(k)});
                put(j, top);
            }
        }
        for (index_t j = 0; j < kLanes<A>; ++j) {
            auto top = row(j);
            settle(top, static_cast<Position<A>>(classes));
            put(j, top);
        }
    }
    RR_HD Top2<A, Position<A>> row(index_t j) const {
        return {{first[j], first_at[j]}, {second[j], second_at[j]}};
    }

private:
    RR_HD void put(index_t j, const Top2<A, Position<A>>& top) {
        first[j] = top.first.value;
        second[j] = top.second.value;
        first_at[j] = top.first.index;
        second_at[j] = top.second.index;
    }
};

// Calls body(sample, top) with the two best classes of each of the rows [begin, end).
template <class T, class Body>
RR_HD void for_each_top2(const T* logits, index_t begin, index_t end, index_t classes,
                         const Body& body) {
    using A = accumulate_t<T>;
    Tile<A> tile;
    in_tiles<A>(
        begin, end, classes,
        [&](index_t first) {
            tile.load(logits + first * classes, classes);
            const TileTop2<A> top(tile, classes);
            for (index_t j = 0; j < kLanes<A>; ++j) {
                body(first + j, top.row(j));
            }
        },
        [&](index_t sample) { body(sample, row_top2(logits + sample * classes, classes)); });
}

}  // namespace rrfast::cpu::RRFAST_ISA
