// plane_seed on the CPU: see csrc/kernels/plane_seed.cu.
#pragma once

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
RR_HD Range<accumulate_t<T>> row_range(const T* row, index_t classes) {
    using A = accumulate_t<T>;
    constexpr index_t lanes = kLanes<A>;
    Range<A> range = empty_range<A>();
    index_t rest = 0;
    if (classes >= lanes) {
        A least[lanes], largest[lanes];
        for (index_t j = 0; j < lanes; ++j) {
            least[j] = largest[j] = widen(row[j]);
        }
        for (rest = lanes; rest + lanes <= classes; rest += lanes) {
            for (index_t j = 0; j < lanes; ++j) {
                const A v = widen(row[rest + j]);
                least[j] = smaller(least[j], v);
                largest[j] = larger(largest[j], v);
            }
        }
        fold_lanes<lanes>([&](index_t a, index_t b) {
            least[a] = smaller(least[a], least[b]);
            largest[a] = larger(largest[a], largest[b]);
        });
        range = {least[0], largest[0]};
    }
    for (; rest < classes; ++rest) {
        const A v = widen(row[rest]);
        range = combine(range, Range<A>{v, v});
    }
    return range;
}

template <class T>
void plane_seed(const T* logits, const index_t* prediction, const index_t* target, index_t begin,
                index_t end, index_t classes, T* seed, accumulate_t<T>* gap) {
    using A = accumulate_t<T>;
    for (index_t sample = begin; sample < end; ++sample) {
        const T* row = logits + sample * classes;
        const index_t y = prediction[sample], k = target[sample];
        const Range<A> range = row_range(row, classes);
        const A unit = plane_unit<T>(range);
        T* result = seed + sample * classes;
        std::memset(result, 0, classes * sizeof(T));
        const bool known = is_class(y, classes) && is_class(k, classes);
        for (const index_t i : {k, y}) {
            if (is_class(i, classes)) {
                result[i] = narrow<T>::from(plane_cotangent(i, k, y, unit));
            }
        }
        gap[sample] =
            known ? plane_gap<T>(widen(row[y]), widen(row[k]), unit, range.largest) : nan<A>();
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
