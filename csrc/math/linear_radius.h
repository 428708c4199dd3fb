// The class that overtakes the prediction first, if logits are linear in the step.
#pragma once

#include "top2.h"

namespace rrfast {

// The prediction's logit at one of the two points, or NaN if it has overflowed. All logits are
// divided by four, which is exact, so that no difference of two differences overflows.
template <class A>
RR_HD A quarter(A logit) {
    return A(0.25) * logit;
}
template <class A>
RR_HD A quarter_of_top(A logit) {
    return logit < infinity<A>() ? quarter(logit) : nan<A>();
}

// The step at which class i overtakes the prediction, if both logits are linear between 0 and alpha
// and beyond (errata 2, 3). gap0 and gap1 are a quarter of h_prediction - h_i there. 0 at a
// tie, infinity if the class does not gain, or is masked; NaN where h_i is NaN or has overflowed.
template <class A>
RR_HD A crossing(A gap0, A gap1, A alpha) {
    const A line = gap1 < gap0 ? alpha * (gap0 / (gap0 - gap1)) : infinity<A>();
    const A step = gap0 <= A(0) ? A(0) : line;
    return gap0 > -infinity<A>() && gap1 > -infinity<A>() ? step : nan<A>();
}

// The class that overtakes first, with its step: the smallest step, the lowest index for equal
// steps, NaN if one is NaN. "No class" has an infinite step.
template <class A, class Index = index_t>
RR_HD Candidate<A, Index> nobody() {
    return {infinity<A>(), kNoIndex<Index>};
}
// For classes in the order of their indices.
template <class A, class Index>
RR_HD void take_first(Candidate<A, Index>& first, const Candidate<A, Index>& next) {
    first = either((next.value < first.value) | is_nan(next.value), next, first);
}
// For classes in any order.
template <class A, class Index>
RR_HD Candidate<A, Index> first_of(const Candidate<A, Index>& a, const Candidate<A, Index>& b) {
    const bool later = b.value == a.value && b.index < a.index;
    return either(b.value < a.value || later || is_nan(b.value), b, a);
}
// Its index, or -1 if no class overtakes or it is unknown which one.
template <class A, class Index>
RR_HD index_t rival_of(const Candidate<A, Index>& first) {
    return first.value < infinity<A>() ? static_cast<index_t>(first.index) : index_t(-1);
}

}  // namespace rrfast
