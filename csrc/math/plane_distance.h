// The distance to a plane within the box, by Newton's method over its faces.
#pragma once

#include "steps.h"

namespace rrfast {

// The elements of a sample after a step. Those that have reached their face of the box have closed
// `spent` of the gap; the others together close `moving` per unit of the step; the nearest face not
// yet reached is at distance `nearest` from x. Two sums over the elements, and a minimum.
template <class S>
struct Faces {
    S spent;
    S moving;
    S nearest;
};

// The contribution of one element. NaN goes into one of the sums; without a box the face is
// infinitely far away and never reached.
template <class A>
RR_HD Faces<A> face_ahead(A x, A normal, bool rising, A step, const Channel<A>& channel) {
    const A weight = normal < A(0) ? -normal : normal;
    const A ahead = (normal > A(0)) == rising ? channel.upper - x : x - channel.lower;
    const A way = ahead < A(0) ? A(0) : ahead;
    const bool met = way <= step * channel.scale;
    const A speed = is_nan(way) ? nan<A>() : weight * channel.scale;
    return {met ? weight * way : A(0), met ? A(0) : speed, met ? infinity<A>() : way};
}

// Newton's method on spent(t) + t moving(t) = |gap|, from t = 0. The left side is concave and
// piecewise linear, so every step stays below the root until it is the root, and every step but the
// last reaches a face. The number of steps does not grow with the number of faces: the product of
// the remaining gap and the speed falls at least by a factor of four in each step (Dinkelbach).
// Rounding bounds the remaining gap from below by 2^-24 (2^-53) of the gap, and the speed has the
// range of a float: at most 170 (1100) steps, for a sample constructed for it. Images take one step
// if no face is reached, and three if a hundredth of the elements reach theirs.
template <class A>
struct Newton {
    A step;
    bool last;
};
// The next step, from the sums at `step`. `unit` is the scale if all channels share one, else
// infinity: then only another pass over the elements tells whether one of them reaches its face
// before `next`.
template <class A, class S>
RR_HD Newton<A> newton_step(const Faces<S>& at, A step, A gap, A unit) {
    // A sum beyond the range of A cannot be represented in any order of addition.
    if (is_nan(gap) || !(at.spent <= kLargest<A>) || !(at.moving <= kLargest<A>)) {
        return {nan<A>(), true};
    }
    if (gap == A(0)) {
        return {A(0), true};
    }
    const S wanted = gap < A(0) ? -gap : gap;
    if (at.moving == S(0)) {
        return {at.spent < wanted ? infinity<A>() : step, true};
    }
    const A next = static_cast<A>((wanted - at.spent) / at.moving);
    const bool last = !(next > step) || next == infinity<A>() || next * unit <= at.nearest;
    return {next <= step ? step : next, last};
}

}  // namespace rrfast
