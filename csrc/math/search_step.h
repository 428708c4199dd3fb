#pragma once

#include "numbers.h"

namespace rrfast {

// The search for a root of margin(r) = h_y - max_{k != y} h_k along a ray, one probe: the bracket,
// the margins at its ends as interpolation weighs them, the end that moved last (-1 lower, 1 upper,
// 0 none), and the radius to try next. A null bracket, which is a tie, stays as it is.
template <class A>
struct RootBracket {
    A lower;
    A upper;
    A lower_margin;
    A upper_margin;
    A side;
    A radius;
};
// Until something flips: the secant through the last two probes, slightly extended because the
// other side is wanted, and at most twice the radius. From then on regula falsi; an end that stays
// for a second time counts half (Illinois). An end may be the root itself, and is then tried again;
// an interpolation that is not finite gives way to bisection. `nudge` keeps the next radius that
// part of `upper` away from both ends.
template <class A>
RR_HD RootBracket<A> search_step(const RootBracket<A>& b, A margin, bool flipped, bool undefined,
                                 A nudge) {
    if (undefined || is_nan(b.radius)) {
        return {nan<A>(), nan<A>(), nan<A>(), nan<A>(), b.side, nan<A>()};
    }
    if (b.upper <= b.lower) {
        return b;
    }
    const bool again = b.side == (flipped ? A(1) : A(-1));
    const A weight = again ? A(0.5) : A(1);
    const A lower = flipped ? b.lower : b.radius;
    const A upper = flipped ? b.radius : b.upper;
    const A lower_margin = flipped ? weight * b.lower_margin : margin;
    const A upper_margin = flipped ? margin : weight * b.upper_margin;
    const A side = flipped ? A(1) : A(-1);
    if (upper == infinity<A>()) {
        const A fall = b.lower_margin - margin;
        const A secant = A(1.05) * (lower + margin * (lower - b.lower) / fall);
        const A longest = A(2) * lower, shortest = A(1.02) * lower;
        const A beyond = fall > A(0) && secant < longest ? secant : longest;
        return {lower,        upper, lower_margin,
                upper_margin, side,  beyond > shortest ? beyond : shortest};
    }
    const A drop = lower_margin - upper_margin;
    const A root = lower + (upper - lower) * (lower_margin / drop);
    const bool inside = drop < infinity<A>() && root >= lower && root <= upper;
    const A next = inside ? root : (lower + upper) / A(2);
    const A least = lower + nudge * upper, most = upper - nudge * upper;
    const A raised = next < least ? least : next;
    return {lower, upper, lower_margin, upper_margin, side, raised > most ? most : raised};
}
// The same; if nothing has flipped yet, the best other class at the latest probe is used.
template <class A>
RR_HD bool shows_rival(const RootBracket<A>& before, const RootBracket<A>& after) {
    return after.upper < before.upper || after.upper == infinity<A>();
}

}  // namespace rrfast
