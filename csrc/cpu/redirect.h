// redirect_ on the CPU: see csrc/kernels/redirect.cu.
#pragma once

#include "../math/redirect.h"
#include "perturb.h"
#include "plane_distance.h"

namespace rrfast::cpu::RRFAST_ISA {

// The sum of term(i, channel) over the elements [begin, end) of one sample, in the order of
// `faces_at`.
template <class A, class Over, class Term>
RR_HD double sum_of(index_t begin, index_t end, const Over& over, const Term& term) {
    constexpr index_t lanes = kLanes<A>;
    double total = 0;
    for_each_chunk(begin, end, over, [&](index_t from, index_t count, const auto& channel) {
        A value[kChunk];
        term(from, count, channel, value);
        for (index_t i = count; i % lanes != 0; ++i) {
            value[i] = A(0);
        }
        const auto fold = [&](index_t a, index_t b) { value[a] += value[b]; };
        for (index_t block = lanes; block < count; block += lanes) {
            for (index_t j = 0; j < lanes; ++j) {
                fold(j, block + j);
            }
        }
        fold_lanes<lanes>(fold);
        total += value[0];
    });
    return total;
}

template <class T>
void redirect_(const T* x, const T* normal, const accumulate_t<T>* gap,
               const accumulate_t<T>* state, const index_t* rival,
               const Channels<accumulate_t<T>>& channels, index_t begin, index_t end,
               index_t samples, index_t elements, bool streams, accumulate_t<T>* step,
               accumulate_t<T>* aim, T* z, std::int8_t* direction, accumulate_t<T>* nearest,
               std::int8_t* nearest_direction, index_t* flipped_to) {
    using A = accumulate_t<T>;
    // The normal is measured without the box, as in `plane_distance`.
    Channels<A> unbounded = channels;
    unbounded.lower = unbounded.upper = nullptr;
    unbounded.bounds_stride = 0;
    std::vector<A> factors(end - begin);
    with_runs(unbounded, elements, [&](const auto& over) {
        for (index_t sample = begin; sample < end; ++sample) {
            const index_t first = sample * elements, last = first + elements;
            factors[sample - begin] = normal_factor(without_faces(normal, first, last, over).moving,
                                                    static_cast<A>(elements));
        }
    });
    with_runs(channels, elements, [&](const auto& over) {
        for (index_t sample = begin; sample < end; ++sample) {
            const index_t first = sample * elements, last = first + elements;
            const A length = step[sample];
            const double way = sum_of<A>(
                first, last, over, [&](index_t from, index_t count, const auto& channel, A* value) {
                    for (index_t i = 0; i < count; ++i) {
                        const Channel<A> c = channel(i);
                        const A sign = unpack_sign<A>(direction[from + i]);
                        value[i] = widen(normal[from + i]) *
                                   displacement<T>(widen(x[from + i]), length * c.scale, sign, c);
                    }
                });
            const auto seen =
                seen_plane(length, gap[sample], static_cast<A>(way), state[5 * samples + sample],
                           nearest[6 * samples + sample]);
            learn_from_ray(seen, state + sample, rival[sample], samples, nearest + sample,
                           flipped_to + sample);
            if (seen.nearer) {
                std::memcpy(nearest_direction + first, direction + first, elements);
            }
            const A factor = factors[sample - begin];
            const double reached = sum_of<A>(
                first, last, over, [&](index_t from, index_t count, const auto& channel, A* value) {
                    A next[kChunk];
                    std::int8_t packed[kChunk];
                    for (index_t i = 0; i < count; ++i) {
                        const Channel<A> c = channel(i);
                        const A slope = widen(normal[from + i]);
                        next[i] = redirected(aim[from + i], slope * factor);
                        packed[i] = pack_sign(widen(narrow<T>::from(next[i])));
                        value[i] = slope * displacement<T>(widen(x[from + i]), seen.probe * c.scale,
                                                           unpack_sign<A>(packed[i]), c);
                    }
                    std::memcpy(aim + from, next, count * sizeof(A));
                    std::memcpy(direction + from, packed, count);
                });
            step[sample] = redirected_step(seen.probe, seen.gap, static_cast<A>(reached),
                                           nearest[7 * samples + sample]);
        }
    });
    perturb(x, direction, step, channels, begin * elements, end * elements, elements, streams, z);
}

}  // namespace rrfast::cpu::RRFAST_ISA
