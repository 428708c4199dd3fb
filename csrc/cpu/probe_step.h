// probe_step on the CPU: see csrc/kernels/probe_step.cu.
#pragma once

#include "../math/probe_step.h"
#include "plane_distance.h"

namespace rrfast::cpu::RRFAST_ISA {

// The largest |x|; NaN if any is.
template <class T>
inline accumulate_t<T> largest_of(const T* x, index_t elements) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    A largest[lanes] = {};
    int undefined[lanes] = {};
    const auto take = [&](index_t j, A value) {
        const A size = value < A(0) ? -value : value;
        largest[j] = size > largest[j] ? size : largest[j];
        undefined[j] |= is_nan(value);
    };
    in_blocks<lanes>(
        0, elements,
        [&](index_t i) {
            for (index_t j = 0; j < lanes; ++j) {
                take(j, widen(x[i + j]));
            }
        },
        [&](index_t i) { take(i % lanes, widen(x[i])); });
    fold_lanes<lanes>([&](index_t a, index_t b) {
        largest[a] = largest[b] > largest[a] ? largest[b] : largest[a];
        undefined[a] |= undefined[b];
    });
    return undefined[0] ? nan<A>() : largest[0];
}

template <class T>
void probe_step(const T* x, const T* normal, const accumulate_t<T>* gap,
                const Channels<accumulate_t<T>>& channels, index_t begin, index_t end,
                index_t elements, accumulate_t<T> finest, accumulate_t<T> longest,
                accumulate_t<T>* step, accumulate_t<T>* largest) {
    using A = accumulate_t<T>;
    A unit = channels.scale ? channels.scale[0] : A(1);
    for (index_t c = 1; channels.scale_stride != 0 && c < channels.channels; ++c) {
        unit = smaller(unit, channels.scale[c]);
    }
    plane_distance(x, normal, gap, channels, begin, end, elements, step);
    for (index_t sample = begin; sample < end; ++sample) {
        largest[sample] = largest_of(x + sample * elements, elements) / unit;
        step[sample] = probe_length(step[sample], largest[sample], finest, longest);
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
