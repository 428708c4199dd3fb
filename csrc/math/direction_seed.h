// The cotangent of RR-Fast's direction: softmax over the classes other than the prediction.
#pragma once

#include "exponential.h"
#include "top2.h"

namespace rrfast {

// Weight of a class in the cotangent, before division by the sum: softmax over the classes other
// than the prediction, written so that its largest term is 1 (errata 4). The limit T = 0 puts all
// weight on the runner-up.
template <class A, class Index>
RR_HD A seed_weight(A logit, Index k, const Top2<A, Index>& top, A temperature) {
    if (temperature == A(0)) {
        return is_nan(top.second.value) ? nan<A>() : static_cast<A>(k == top.second.index);
    }
    const A gap = logit - top.second.value;
    return exp_nonpositive(temperature == A(1) ? gap : gap / temperature);
}

// The margin, or what of the largest logit is clear of rounding where that is more: 32 times the
// eps of the dtype, but of float32 for float64, as the model may compute in that.
template <class T>
constexpr accumulate_t<T> kClear = 0x1p-18f;
template <>
constexpr float kClear<bfloat16> = 0x1p-2f;
template <>
constexpr float kClear<float16> = 0x1p-5f;
template <class T, class A = accumulate_t<T>>
RR_HD A clear_margin(A margin, A first) {
    return larger(margin, (first < A(0) ? -first : first) * kClear<T>);
}

// The same from one visit to a row too long to be kept: the two best classes so far, and what all
// but the first weigh together. Whoever finds a larger second rescales the sum (Milakov &
// Gimelshein 2018): of the sum and a newcomer one has the weight that it had, so that a class costs
// one exponential.
template <class A, class Index>
struct WeighedTop2 {
    Top2<A, Index> top;
    A sum;
};
// Of classes whose best weighs 1.
template <class A>
struct Weights {
    A best;
    A sum;
};
template <class A>
RR_HD Weights<A> weight_of_one(A logit) {
    return {logit, logit == -infinity<A>() ? A(0) : A(1)};
}
template <class A>
RR_HD Weights<A> combine(const Weights<A>& a, const Weights<A>& b, A temperature) {
    const bool swap = ranks_above(b.best, a.best);
    const A best = swap ? b.best : a.best, beaten = swap ? a.best : b.best;
    const A sum = swap ? b.sum : a.sum, beaten_sum = swap ? a.sum : b.sum;
    const A gap = beaten == -infinity<A>() ? beaten : beaten - best;
    return {best,
            sum + beaten_sum * exp_nonpositive(temperature == A(1) ? gap : gap / temperature)};
}
template <class A, class Index>
RR_HD void push(WeighedTop2<A, Index>& weighed, const Candidate<A, Index>& next, A temperature) {
    const Candidate<A, Index>& first = weighed.top.first;
    const A joins = leads_earlier(next, first) ? first.value : next.value;
    const Weights<A> others{weighed.top.second.value, weighed.sum};
    weighed.sum = combine(others, weight_of_one(joins), temperature).sum;
    push(weighed.top, next);
}
template <class A, class Index>
RR_HD WeighedTop2<A, Index> combine(const WeighedTop2<A, Index>& a, const WeighedTop2<A, Index>& b,
                                    A temperature) {
    const bool swap = leads(b.top.first, a.top.first);
    const A joins = swap ? a.top.first.value : b.top.first.value;
    const Weights<A> others = combine(Weights<A>{a.top.second.value, a.sum},
                                      Weights<A>{b.top.second.value, b.sum}, temperature);
    return {combine(a.top, b.top), combine(others, weight_of_one(joins), temperature).sum};
}
// What the weights add up to.
template <class A, class Index>
RR_HD A seed_sum(const WeighedTop2<A, Index>& weighed, A temperature) {
    const A sum = weighed.top.second.value < infinity<A>() ? weighed.sum : nan<A>();
    return temperature == A(0) ? A(1) : sum;
}

}  // namespace rrfast
