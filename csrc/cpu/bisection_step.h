// bisection_step_ on the CPU: see csrc/kernels/bisection_step.cu.
#pragma once

#include "../math/bisection_step.h"
#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void bisection_step_(const T* logits, const index_t* prediction, index_t begin, index_t end,
                     index_t classes, accumulate_t<T>* lower, accumulate_t<T>* upper,
                     accumulate_t<T>* radius, index_t* rival) {
    using A = accumulate_t<T>;
    for_each_top2(logits, begin, end, classes, [&](index_t sample, const auto& top) {
        const Bracket<A> bracket{lower[sample], upper[sample], radius[sample]};
        const auto next = bisection_step(bracket, top.first.index != prediction[sample],
                                         is_undefined(top.first.value));
        if (rival && shows_rival(bracket, next)) {
            rival[sample] = top.first.index;
        }
        lower[sample] = next.lower;
        upper[sample] = next.upper;
        radius[sample] = next.radius;
    });
}

}  // namespace rrfast::cpu::RRFAST_ISA
