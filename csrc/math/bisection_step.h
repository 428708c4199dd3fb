#pragma once

#include "numbers.h"

namespace rrfast {

// RR-BS, one probe: the bracket learns from the prediction at `radius`, and the next radius is
// min(mid, 2 lower): doubling until something flips, bisection from then on. Undefined logits make
// the sample NaN permanently.
template <class A>
struct Bracket {
    A lower;
    A upper;
    A radius;
};
template <class A>
RR_HD Bracket<A> bisection_step(const Bracket<A>& b, bool flipped, bool undefined) {
    if (undefined || is_nan(b.radius)) {
        return {nan<A>(), nan<A>(), nan<A>()};
    }
    const A lower = flipped ? b.lower : b.radius;
    const A upper = flipped ? b.radius : b.upper;
    const A middle = (lower + upper) / A(2);
    const A doubled = A(2) * lower;
    return {lower, upper, middle < doubled ? middle : doubled};
}
// Whether a probe is the nearest so far that flipped: its prediction is the rival.
template <class A>
RR_HD bool shows_rival(const Bracket<A>& before, const Bracket<A>& after) {
    return after.upper < before.upper;
}

}  // namespace rrfast
