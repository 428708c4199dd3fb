#pragma once

#include "exponential.h"
#include "top2.h"

namespace rrfast {

// The losses that attacks raise. In all but the confidence a logit of +infinity counts as the
// largest number, and has no gradient; nor has a class that is masked with -infinity. What is NaN
// makes the loss and all of its gradient NaN.
enum class AttackLoss : int { ce, cw, confidence, other, dlr, dlr_targeted };
constexpr int kAttackLosses = 6;
constexpr index_t least_classes(AttackLoss loss) {
    return loss == AttackLoss::dlr_targeted ? 4 : loss == AttackLoss::dlr ? 3 : 2;
}

// Of those the log-odds of a class against all others; the rest are differences of two logits.
RR_HD bool is_odds(AttackLoss loss) {
    return loss == AttackLoss::ce || loss == AttackLoss::confidence || loss == AttackLoss::other;
}
// Divided by a spread of the largest.
RR_HD bool is_ratio(AttackLoss loss) {
    return loss == AttackLoss::dlr || loss == AttackLoss::dlr_targeted;
}

// The class of a row that an array of classes names, with its logit; no class and NaN if it names
// none, or is null.
template <class T, class Index = index_t>
RR_HD Candidate<accumulate_t<T>, Index> named_class(const T* row, const index_t* of, index_t sample,
                                                    index_t classes) {
    using A = accumulate_t<T>;
    const index_t k = of ? of[sample] : index_t(-1);
    return is_class(k, classes) ? Candidate<A, Index>{widen(row[k]), static_cast<Index>(k)}
                                : Candidate<A, Index>{nan<A>(), kNoIndex<Index>};
}

// NaN is lost here; it is looked for elsewhere.
template <class A>
RR_HD A capped(A logit) {
    return logit < infinity<A>() ? logit : kLargest<A>;
}
// What the other classes are compared with: their best, or a number that none of them has.
template <class A>
RR_HD A level_of(A best) {
    return best > -infinity<A>() ? capped(best) : kLargest<A>;
}
template <class A, class Index>
RR_HD A best_besides(const Top2<A, Index>& top, Index k) {
    return top.first.index == k ? top.second.value : top.first.value;
}

// sign * (log sum_{k != c} e^h_k - h_c), and its gradient, sign * softmax_{k != c} and -sign at c.
template <class A, class Index>
struct Odds {
    Candidate<A, Index> of;  // c; its logit is NaN if nothing is known
    A level;                 // what the others are compared with
};
// `label` is a class and its logit, or no class and NaN.
template <class A, class Index>
RR_HD Odds<A, Index> odds_of(AttackLoss loss, const Top2<A, Index>& top,
                             const Candidate<A, Index>& label) {
    const bool second = top.first.index == label.index;
    const Candidate<A, Index> rival = either(second, top.second, top.first);
    Candidate<A, Index> of = either(loss == AttackLoss::other, rival, label);
    of = either(loss == AttackLoss::confidence, top.first, of);
    const bool vague = loss == AttackLoss::confidence
                           ? is_undefined(top.first.value)
                           : is_nan(top.first.value) || label.index == kNoIndex<Index>;
    return {{vague ? nan<A>() : of.value, of.index}, level_of(best_besides(top, of.index))};
}
// Of a class besides c, before division; 1 is the largest.
template <class A>
RR_HD A odds_weight(A logit, A level) {
    return exp_nonpositive(capped(logit) - level);
}
// What of the weight is in the gradient.
template <class A>
RR_HD A unless_infinite(A weight, A logit) {
    return logit == infinity<A>() ? A(0) : weight;
}
template <class A>
struct OddsSeed {
    A loss;
    A divisor;  // of the weights
    A at_own;   // the gradient at c
};
template <class A, class Index>
RR_HD OddsSeed<A> odds_seed(AttackLoss kind, const Odds<A, Index>& odds, A sum) {
    const A sign = kind == AttackLoss::ce ? A(1) : A(-1);
    const bool alone = sum == A(0);  // all others are masked
    const A total = alone ? A(1) : sum;
    const A others = alone ? -infinity<A>() : odds.level + log1p_nonnegative(total - A(1));
    const A loss = sign * (others - capped(odds.of.value));
    if (is_nan(odds.of.value) || is_nan(loss)) {
        return {nan<A>(), nan<A>(), nan<A>()};
    }
    return {loss, sign * total, unless_infinite(-sign, odds.of.value)};
}

// h_a - h_y, of the ratios by a spread of the largest logits, and its gradient. a is a target, or
// the best of the others: equals share its gradient.
template <class A, class Index>
struct MarginSeed {
    A loss;
    A level;                     // the logit of the best others; NaN if there is a target
    Index label, target;         // the target may be no class
    Index first, third, fourth;  // of the spread
    A elsewhere, share, at_label;
    A slope, lower;  // of the loss in the largest logit, and in those it is compared with

    RR_HD A at(Index k, A logit) const {
        const bool shares = (capped(logit) == level) | (k == target);
        const A margin = k == label ? at_label : shares ? share : elsewhere;
        const A compared = (k == third) | (k == fourth) ? lower : A(0);
        const A found = margin + (k == first ? slope : compared);
        return logit == infinity<A>() ? elsewhere : found;
    }
};
template <class A, class Index>
RR_HD A margin_level(AttackLoss loss, const Top2<A, Index>& top, Index label) {
    return loss == AttackLoss::dlr_targeted ? nan<A>() : level_of(best_besides(top, label));
}
// `next` are the third and the fourth, looked at for the ratios only; `equals` counts the best
// others. `label` and `target` are classes and their logits, or no class and NaN.
template <class A, class Index>
RR_HD MarginSeed<A, Index> margin_seed(AttackLoss loss, const Top2<A, Index>& top,
                                       const Top2<A, Index>& next, const Candidate<A, Index>& label,
                                       const Candidate<A, Index>& target, A equals) {
    const bool aims = loss == AttackLoss::dlr_targeted;
    const A ahead =
        capped(aims ? target.value : best_besides(top, label.index)) - capped(label.value);
    const bool vague = is_nan(top.first.value) || is_nan(ahead) || label.index == kNoIndex<Index> ||
                       (aims && target.index == kNoIndex<Index>);
    const A third = capped(next.first.value), fourth = capped(next.second.value);
    const A found = capped(top.first.value) - (aims ? (third + fourth) / A(2) : third);
    const bool divides = is_ratio(loss) && found > A(0) && found < infinity<A>();
    const A spread = vague ? nan<A>() : divides ? found : A(1);
    const A value = ahead / spread;
    const A slope = divides ? -value / spread : A(0);
    const A total = equals == A(0) ? A(1) : equals;  // all others are masked
    return {value,
            margin_level(loss, top, label.index),
            label.index,
            aims ? target.index : kNoIndex<Index>,
            top.first.index,
            next.first.index,
            aims ? next.second.index : kNoIndex<Index>,
            vague ? nan<A>() : A(0),
            A(1) / total / spread,
            aims && label.index == target.index ? A(0) / spread : A(-1) / spread,
            slope,
            aims ? slope * A(-0.5) : -slope};
}

}  // namespace rrfast
