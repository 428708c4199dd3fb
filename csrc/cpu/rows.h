// Reductions over one row of logits. Partial results live in fixed lanes, so that the compiler
// vectorises them without being allowed to reorder floating point, and every instruction set gives
// the same bits.
#pragma once

#include "../kernels/math.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class A>
constexpr index_t kLanes = 128 / sizeof(A);

// What a row kernel keeps on the stack of the values it computes, so that computing them is a loop
// of its own, without a reduction in it.
constexpr index_t kChunk = 256;
constexpr index_t kRow = 4096;

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

// Calls fold(j, j + n / 2), (j, j + n / 4), … until lane 0 has met all of them: a tree, because in
// a chain each step would wait for the one before.
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

// The two best classes, one by one: for short rows, and for rows with NaN, where order alone does
// not decide.
template <class T>
RR_HD Top2<accumulate_t<T>> scan_top2(const T* row, index_t classes) {
    using A = accumulate_t<T>;
    auto top = empty_top2<A>();
    for (index_t k = 0; k < 2 && k < classes; ++k) {
        top = combine(top, {{widen(row[k]), k}, no_candidate<A>()});
    }
    for (index_t k = 2; k < classes; ++k) {  // in order, so that an equal one never leads
        const Candidate<A> next{widen(row[k]), k};
        const bool best = ranks_above(next.value, top.first.value);
        const bool good = ranks_above(next.value, top.second.value);
        top.second = either(best, top.first, either(good, next, top.second));
        top.first = either(best, next, top.first);
    }
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

// The best class of a row.
template <class T>
inline Candidate<accumulate_t<T>> row_argmax(const T* row, index_t classes) {
    using A = accumulate_t<T>;
    if (classes >= 2 * kLanes<A>) {
        return row_top2(row, classes).first;
    }
    Candidate<A> best{widen(row[0]), 0};
    for (index_t k = 1; k < classes; ++k) {
        const A value = widen(row[k]);
        best = either(ranks_above(value, best.value), {value, k}, best);
    }
    return best;
}

}  // namespace rrfast::cpu::RRFAST_ISA
