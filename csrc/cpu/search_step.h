// search_step_ on the CPU: see csrc/kernels/search_step.cu.
#pragma once

#include "../math/search_step.h"
#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void search_step_(const T* logits, const index_t* prediction, index_t begin, index_t end,
                  index_t samples, index_t classes, accumulate_t<T> nudge, accumulate_t<T>* state,
                  index_t* rival) {
    using A = accumulate_t<T>;
    for_each_top2(logits, begin, end, classes, [&](index_t sample, const auto& top) {
        const index_t y = prediction[sample];
        const bool flipped = top.first.index != y;
        const bool known = is_class(y, classes);
        const A lead = known ? widen(logits[sample * classes + y]) : nan<A>();
        const auto other = either(flipped, top.first, top.second);
        A* s = state + sample;  // [6, B]
        const RootBracket<A> bracket{s[0],           s[samples],     s[2 * samples],
                                     s[3 * samples], s[4 * samples], s[5 * samples]};
        const auto next = search_step(bracket, lead - other.value, flipped,
                                      !known || is_undefined(top.first.value), nudge);
        if (rival && shows_rival(bracket, next)) {
            rival[sample] = other.index;
        }
        s[0] = next.lower;
        s[samples] = next.upper;
        s[2 * samples] = next.lower_margin;
        s[3 * samples] = next.upper_margin;
        s[4 * samples] = next.side;
        s[5 * samples] = next.radius;
    });
}

}  // namespace rrfast::cpu::RRFAST_ISA
