// bisection_step_ on the CPU: see csrc/kernels/bisection_step.cu.
#pragma once

#include "rows.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void bisection_step_(const T* logits, const index_t* prediction, index_t begin, index_t end,
                     index_t classes, accumulate_t<T>* lower, accumulate_t<T>* upper,
                     accumulate_t<T>* radius) {
    for_each_top2(logits, begin, end, classes, [&](index_t sample, const auto& top) {
        const auto next =
            bisection_step(Bracket<accumulate_t<T>>{lower[sample], upper[sample], radius[sample]},
                           top.first.index != prediction[sample], is_undefined(top.first.value));
        lower[sample] = next.lower;
        upper[sample] = next.upper;
        radius[sample] = next.radius;
    });
}

}  // namespace rrfast::cpu::RRFAST_ISA
