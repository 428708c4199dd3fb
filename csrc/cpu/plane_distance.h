// plane_distance on the CPU: see csrc/kernels/plane_distance.cu.
#pragma once

#include "../math/plane_distance.h"
#include "rows.h"
#include "steps.h"

namespace rrfast::cpu::RRFAST_ISA {

// The elements are summed in chunks: within one in A, with at most kChunk / kLanes values in
// sequence, and the chunks in double, so that the rounding error does not grow with the sample.
// body(from, count, channel) gets every chunk of the elements [begin, end) of one sample.
template <class Over, class Body>
RR_HD void for_each_chunk(index_t begin, index_t end, const Over& over, const Body& body) {
    over(begin, end, [&](index_t, index_t first, index_t last, const auto& channel) {
        for (index_t from = first; from < last; from += kChunk) {
            body(from, last - from < kChunk ? last - from : kChunk,
                 [&](index_t i) { return channel(from - first + i); });
        }
    });
}

// The faces met and ahead after a step.
template <class T, class Over>
RR_HD Faces<double> faces_at(const T* x, const T* normal, bool rising, accumulate_t<T> step,
                             index_t begin, index_t end, const Over& over) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    Faces<double> total{0, 0, infinity<double>()};
    for_each_chunk(begin, end, over, [&](index_t from, index_t count, const auto& channel) {
        A spent[kChunk], moving[kChunk], nearest[kChunk];
        for (index_t i = 0; i < count; ++i) {
            const Faces<A> face =
                face_ahead(widen(x[from + i]), widen(normal[from + i]), rising, step, channel(i));
            spent[i] = face.spent;
            moving[i] = face.moving;
            nearest[i] = face.nearest;
        }
        for (index_t i = count; i % lanes != 0; ++i) {
            spent[i] = moving[i] = A(0);
            nearest[i] = infinity<A>();
        }
        const auto fold = [&](index_t a, index_t b) {
            spent[a] += spent[b];
            moving[a] += moving[b];
            nearest[a] = nearest[b] < nearest[a] ? nearest[b] : nearest[a];
        };
        for (index_t block = lanes; block < count; block += lanes) {
            for (index_t j = 0; j < lanes; ++j) {
                fold(j, block + j);
            }
        }
        fold_lanes<lanes>(fold);
        total.spent += spent[0];
        total.moving += moving[0];
        total.nearest = nearest[0] < total.nearest ? nearest[0] : total.nearest;
    });
    return total;
}

// The same without a box, whose faces nobody meets: one sum, the same wherever x is.
template <class T, class Over>
RR_HD Faces<double> without_faces(const T* normal, index_t begin, index_t end, const Over& over) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    double total = 0;
    for_each_chunk(begin, end, over, [&](index_t from, index_t count, const auto& channel) {
        A moving[lanes] = {};
        const auto take = [&](index_t j, index_t i) {
            const A slope = widen(normal[from + i]);
            moving[j] += (slope < A(0) ? -slope : slope) * channel(i).scale;
        };
        in_blocks<lanes>(
            0, count,
            [&](index_t i) {
                for (index_t j = 0; j < lanes; ++j) {
                    take(j, i + j);
                }
            },
            [&](index_t i) { take(i % lanes, i); });
        fold_lanes<lanes>([&](index_t a, index_t b) { moving[a] += moving[b]; });
        total += moving[0];
    });
    return {0, total, infinity<double>()};
}

template <class T>
void plane_distance(const T* x, const T* normal, const accumulate_t<T>* gap,
                    const Channels<accumulate_t<T>>& channels, index_t begin, index_t end,
                    index_t elements, accumulate_t<T>* distance) {
    using A = accumulate_t<T>;
    const A unit = channels.scale_stride == 0 ? channels.at(0).scale : infinity<A>();
    with_runs(channels, elements, [&](const auto& over) {
        for (index_t sample = begin; sample < end; ++sample) {
            const index_t first = sample * elements, last = first + elements;
            const bool rising = gap[sample] > A(0);
            Newton<A> newton{A(0), false};
            while (!newton.last) {
                const auto faces = channels.lower
                                       ? faces_at(x, normal, rising, newton.step, first, last, over)
                                       : without_faces(normal, first, last, over);
                newton = newton_step(faces, newton.step, gap[sample], unit);
            }
            distance[sample] = newton.step;
        }
    });
}

}  // namespace rrfast::cpu::RRFAST_ISA
