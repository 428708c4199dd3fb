// direction_seed on the CPU: see csrc/kernels/direction_seed.cu.
#pragma once

#include <type_traits>
#include <vector>

#include "../math/direction_seed.h"
#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

// `kept` has room for a row, and may be the seed itself. Each exponential is computed once, since
// it costs more than everything else.
template <class T>
void seed_of_row(const T* __restrict__ row, index_t classes, accumulate_t<T> temperature,
                 accumulate_t<T>* kept, index_t* prediction, accumulate_t<T>* margin, T* seed,
                 index_t* runner_up, accumulate_t<T>* clear) {
    using A = accumulate_t<T>;
    const Top2<A> top = row_top2(row, classes);
    for (index_t k = 0; k < classes; ++k) {
        kept[k] = seed_weight(widen(row[k]), k, top, temperature);
    }
    kept[top.first.index] = A(0);
    const A sum = sum_of(kept, classes);
    for (index_t k = 0; k < classes; ++k) {
        seed[k] = narrow<T>::from(kept[k] / sum);
    }
    seed[top.first.index] = narrow<T>::from(A(-1));
    *prediction = top.first.index;
    *margin = margin_of(top.first.value, top.second.value);
    *runner_up = top.second.index;
    *clear = clear_margin<T>(*margin, top.first.value);
}

template <class T>
void seeds_of_tile(const T* rows, index_t classes, accumulate_t<T> temperature, index_t* prediction,
                   accumulate_t<T>* margin, T* seeds, index_t* runner_up, accumulate_t<T>* clear) {
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
        margin[j] = margin_of(top.first[j], top.second[j]);
        runner_up[j] = top.second_at[j];
        clear[j] = clear_margin<T>(margin[j], top.first[j]);
    }
}

template <class T>
void direction_seed(const T* logits, index_t begin, index_t end, index_t classes,
                    double temperature, index_t* prediction, accumulate_t<T>* margin, T* seed,
                    index_t* runner_up, accumulate_t<T>* clear) {
    using A = accumulate_t<T>;
    const auto t = static_cast<A>(temperature);
    std::vector<A> wide(std::is_same_v<T, A> ? 0 : classes);
    in_tiles<A>(
        begin, end, classes,
        [&](index_t first) {
            seeds_of_tile(logits + first * classes, classes, t, prediction + first, margin + first,
                          seed + first * classes, runner_up + first, clear + first);
        },
        [&](index_t sample) {
            T* out = seed + sample * classes;
            A* kept = wide.data();
            if constexpr (std::is_same_v<T, A>) {
                kept = out;
            }
            seed_of_row(logits + sample * classes, classes, t, kept, prediction + sample,
                        margin + sample, out, runner_up + sample, clear + sample);
        });
}

}  // namespace rrfast::cpu::RRFAST_ISA
