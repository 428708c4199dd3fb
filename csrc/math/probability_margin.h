#pragma once

#include "exponential.h"
#include "top2.h"

namespace rrfast {

// Some of the classes other than the label, with a_k = h_k - best <= 0: sums over all of them but
// the best, whose terms are known. Leaving out its 1 keeps a sum's digits if all other terms are
// small. Combining is commutative, and associative up to rounding.
template <class A>
struct Rivals {
    A best;     // max of h_k
    A rest;     // sum of e^a_k, less 1
    A spread;   // sum of |a_k| e^a_k
    A squares;  // sum of e^2a_k, less 1
};
template <class A>
RR_HD Rivals<A> one_rival(A logit) {
    return {logit, A(0), A(0), A(0)};
}
template <class A>
RR_HD Rivals<A> no_rivals() {
    return one_rival(-infinity<A>());
}
// A class at -infinity is masked and adds nothing. NaN stays, in `best` or in `rest`.
template <class A>
RR_HD Rivals<A> combine(const Rivals<A>& a, const Rivals<A>& b) {
    const bool swap = b.best > a.best;
    const A best = swap ? b.best : a.best, beaten = swap ? a.best : b.best;
    const A rest = swap ? b.rest : a.rest, beaten_rest = swap ? a.rest : b.rest;
    const A spread = swap ? b.spread : a.spread, beaten_spread = swap ? a.spread : b.spread;
    const A squares = swap ? b.squares : a.squares, beaten_squares = swap ? a.squares : b.squares;
    const A gap = beaten == -infinity<A>() ? infinity<A>() : best - beaten;
    const A weight = exp_nonpositive(-gap);
    const A lost = weight == A(0) ? A(0) : gap * weight;
    const A square = weight * weight;
    return {best, (rest + beaten_rest * weight) + weight,
            (spread + beaten_spread * weight) + (beaten_rest + A(1)) * lost,
            (squares + beaten_squares * square) + square};
}

template <class A>
struct ProbabilityMargin {
    A margin;
    A top2_ratio;
    A similarity;
    A entropy;
};
// With d = h_label - best, e^d would overflow for large d, so everything is written in t = e^-|d|
// <= 1, and as sums of terms of one sign.
template <class A>
RR_HD ProbabilityMargin<A> probability_margin_of(A label, const Rivals<A>& rivals) {
    const A lead = label - rivals.best;
    if (!(label < infinity<A>() && rivals.best < infinity<A>()) || is_nan(rivals.rest) ||
        is_nan(lead)) {
        return {nan<A>(), nan<A>(), nan<A>(), nan<A>()};
    }
    const bool ahead = lead >= A(0);
    const A gap = ahead ? lead : -lead;
    const A t = exp_nonpositive(-gap);
    const A lost = t == A(0) ? A(0) : gap * t;
    const A sum = A(1) + rivals.rest, squares = A(1) + rivals.squares;
    const A total = ahead ? A(1) + t * sum : sum + t;
    const A length = ahead ? A(1) + squares * (t * t) : squares + t * t;
    const A excess = ahead ? t * sum : rivals.rest + t;
    const A surprise = ahead ? lost * sum + t * rivals.spread : lost + rivals.spread;
    const A margin = expm1_nonpositive(-gap) / total;
    const A similarity = square_root(squares / length);
    return {ahead ? margin : -margin, A(1) / sum, ahead ? t * similarity : similarity,
            log1p_nonnegative(excess) + surprise / total};
}

}  // namespace rrfast
