// search_step_ on the CPU: see csrc/kernels/search_step.cu.
#pragma once

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void search_step_(const T* logits, const index_t* prediction, index_t begin, index_t end,
                  index_t samples, index_t classes, accumulate_t<T> nudge, accumulate_t<T>* state) {
    using A = accumulate_t<T>;
    for_each_top2(logits, begin, end, classes, [&](index_t sample, const auto& top) {
        const index_t y = prediction[sample];
        const bool flipped = top.first.index != y;
        const bool known = is_class(y, classes);
        const A lead = known ? widen(logits[sample * classes + y]) : nan<A>();
        const A rival = flipped ? top.first.value : top.second.value;
        A* s = state + sample;  // [6, B]
        const auto next =
            search_step(RootBracket<A>{s[0], s[samples], s[2 * samples], s[3 * samples],
                                       s[4 * samples], s[5 * samples]},
                        lead - rival, flipped, !known || is_undefined(top.first.value), nudge);
        s[0] = next.lower;
        s[samples] = next.upper;
        s[2 * samples] = next.lower_margin;
        s[3 * samples] = next.upper_margin;
        s[4 * samples] = next.side;
        s[5 * samples] = next.radius;
    });
}

}  // namespace rrfast::cpu::RRFAST_ISA
