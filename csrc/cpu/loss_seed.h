// loss_seed on the CPU: see csrc/kernels/loss_seed.cu.
#pragma once

#include <type_traits>
#include <vector>

#include "../math/loss_seed.h"
#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// `kept` has room for a row, and may be the seed itself. Each exponential is computed once, since
// it costs more than everything else.
template <class T>
void odds_of_row(AttackLoss kind, const T* __restrict__ row,
                 const Candidate<accumulate_t<T>>& label, index_t classes, accumulate_t<T>* kept,
                 accumulate_t<T>* loss, T* seed) {
    using A = accumulate_t<T>;
    const auto odds = odds_of(kind, row_top2(row, classes), label);
    for (index_t k = 0; k < classes; ++k) {
        kept[k] = odds_weight(widen(row[k]), odds.level);
    }
    const bool known = is_class(odds.of.index, classes);
    if (known) {
        kept[odds.of.index] = A(0);
    }
    const OddsSeed<A> end = odds_seed(kind, odds, sum_of(kept, classes));
    for (index_t k = 0; k < classes; ++k) {
        seed[k] = narrow<T>::from(unless_infinite(kept[k], widen(row[k])) / end.divisor);
    }
    if (known) {
        seed[odds.of.index] = narrow<T>::from(end.at_own);
    }
    *loss = end.loss;
}

template <class T>
void odds_of_tile(AttackLoss kind, const T* rows, const index_t* labels, index_t first,
                  index_t classes, accumulate_t<T>* loss, T* seeds) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    const auto number = static_cast<Position<A>>(classes);
    Tile<A> tile;
    tile.load(rows, classes);
    const TileTop2<A> top(tile, classes);
    Odds<A, Position<A>> odds[lanes];
    A level[lanes], sum[lanes] = {}, divisor[lanes], at_own[lanes];
    Position<A> own[lanes];
    for (index_t j = 0; j < lanes; ++j) {
        odds[j] =
            odds_of(kind, top.row(j),
                    named_class<T, Position<A>>(rows + j * classes, labels, first + j, classes));
        level[j] = odds[j].level;
        own[j] = odds[j].of.index;
    }
    for (Position<A> k = 0; k < number; ++k) {
        for (index_t j = 0; j < lanes; ++j) {
            const A logit = tile.value[k][j];
            const A weight = k == own[j] ? A(0) : odds_weight(logit, level[j]);
            tile.value[k][j] = unless_infinite(weight, logit);
            sum[j] += weight;
        }
    }
    for (index_t j = 0; j < lanes; ++j) {
        const OddsSeed<A> end = odds_seed(kind, odds[j], sum[j]);
        loss[j] = end.loss;
        divisor[j] = end.divisor;
        at_own[j] = end.at_own;
    }
    for (Position<A> k = 0; k < number; ++k) {
        for (index_t j = 0; j < lanes; ++j) {
            const A share = tile.value[k][j] / divisor[j];
            tile.value[k][j] = k == own[j] ? at_own[j] : share;
        }
    }
    tile.store(seeds, classes);
}

// `kept` as above.
template <class T>
void margin_of_row(AttackLoss kind, const T* __restrict__ row,
                   const Candidate<accumulate_t<T>>& label,
                   const Candidate<accumulate_t<T>>& target, index_t classes, accumulate_t<T>* kept,
                   accumulate_t<T>* loss, T* seed) {
    using A = accumulate_t<T>;
    const Top2<A> top = row_top2(row, classes);
    Top2<A> next = empty_top2<A>();
    if (is_ratio(kind)) {
        for (index_t k = 0; k < classes; ++k) {
            kept[k] = widen(row[k]);
        }
        kept[top.first.index] = kept[top.second.index] = -infinity<A>();
        next = row_top2(kept, classes);
    }
    const A level = margin_level(kind, top, label.index);
    index_t equals = 0;
    for (index_t k = 0; k < classes; ++k) {
        equals += capped(widen(row[k])) == level;
    }
    equals -= capped(label.value) == level && label.index < classes;
    const auto found = margin_seed(kind, top, next, label, target, static_cast<A>(equals));
    const T share = narrow<T>::from(found.share), elsewhere = narrow<T>::from(found.elsewhere);
    for (index_t k = 0; k < classes; ++k) {
        const A logit = widen(row[k]);
        seed[k] = (capped(logit) == level) & (logit < infinity<A>()) ? share : elsewhere;
    }
    for (const index_t k : {found.label, found.target, found.first, found.third, found.fourth}) {
        if (is_class(k, classes)) {
            seed[k] = narrow<T>::from(found.at(k, widen(row[k])));
        }
    }
    *loss = found.loss;
}

template <class T>
void loss_seed(const T* logits, const index_t* labels, const index_t* targets, index_t begin,
               index_t end, index_t classes, AttackLoss kind, accumulate_t<T>* loss, T* seed) {
    using A = accumulate_t<T>;
    std::vector<A> wide(std::is_same_v<T, A> ? 0 : classes);
    const auto single = [&](index_t sample) {
        const T* row = logits + sample * classes;
        T* out = seed + sample * classes;
        A* kept = wide.data();
        if constexpr (std::is_same_v<T, A>) {
            kept = out;
        }
        const auto label = named_class(row, labels, sample, classes);
        if (is_odds(kind)) {
            odds_of_row(kind, row, label, classes, kept, loss + sample, out);
        } else {
            margin_of_row(kind, row, label, named_class(row, targets, sample, classes), classes,
                          kept, loss + sample, out);
        }
    };
    if (is_odds(kind)) {
        in_tiles<A>(
            begin, end, classes,
            [&](index_t first) {
                odds_of_tile(kind, logits + first * classes, labels, first, classes, loss + first,
                             seed + first * classes);
            },
            single);
    } else {
        for (index_t sample = begin; sample < end; ++sample) {
            single(sample);
        }
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
