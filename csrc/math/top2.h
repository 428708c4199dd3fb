// The two best classes of a row of logits, as its parts are combined in any order.
#pragma once

#include "numbers.h"

namespace rrfast {

// NaN ranks above every number, as in torch.argmax.
template <class A>
RR_HD bool ranks_above(A v, A w) {
    return v > w || (is_nan(v) && !is_nan(w));
}
template <class A>
RR_HD bool ranks_equal(A v, A w) {
    return v == w || (is_nan(v) && is_nan(w));
}

// A wrong index must not read outside the row.
RR_HD bool is_class(index_t k, index_t classes) { return k >= 0 && k < classes; }

// A class and its logit; for equal logits, the lower index leads. The GPU counts classes in 32
// bits, the size of its registers.
template <class A, class Index = index_t>
struct Candidate {
    A value;
    Index index;
};
template <class Index>
constexpr Index kNoIndex = std::numeric_limits<Index>::max();
template <class A, class Index = index_t>
RR_HD Candidate<A, Index> no_candidate() {
    return {-infinity<A>(), kNoIndex<Index>};
}
template <class A, class Index>
RR_HD bool leads(const Candidate<A, Index>& a, const Candidate<A, Index>& b) {
    return ranks_above(a.value, b.value) || (ranks_equal(a.value, b.value) && a.index < b.index);
}
// Chooses member by member: choosing between structs would take their addresses, which registers of
// a GPU do not have.
template <class A, class Index>
RR_HD Candidate<A, Index> either(bool choice, const Candidate<A, Index>& a,
                                 const Candidate<A, Index>& b) {
    return {choice ? a.value : b.value, choice ? a.index : b.index};
}

// The same for classes in the order of their indices. An equal class never leads, so the values
// decide: `ranks_above` in two comparisons and without a branch. A class at -infinity never
// replaces an empty candidate; `settle` adds such classes at the end.
template <class A, class Index>
RR_HD bool leads_earlier(const Candidate<A, Index>& next, const Candidate<A, Index>& earlier) {
    return !(next.value <= earlier.value) & !is_nan(earlier.value);
}
template <class A, class Index>
RR_HD void push(Candidate<A, Index>& best, const Candidate<A, Index>& next) {
    best = either(leads_earlier(next, best), next, best);
}
// `count` classes were pushed; those that were not taken are at -infinity.
template <class A, class Index>
RR_HD void settle(Candidate<A, Index>& best, Index count) {
    if (best.index == kNoIndex<Index> && count > 0) {
        best.index = 0;
    }
}

// The prediction and the runner-up of a row, and how two parts of a row combine. Associative and
// commutative, so any reduction tree gives the same answer.
template <class A, class Index = index_t>
struct Top2 {
    Candidate<A, Index> first;
    Candidate<A, Index> second;
};
template <class A, class Index = index_t>
RR_HD Top2<A, Index> empty_top2() {
    return {no_candidate<A, Index>(), no_candidate<A, Index>()};
}
template <class A, class Index>
RR_HD void push(Top2<A, Index>& top, const Candidate<A, Index>& next) {
    const bool best = leads_earlier(next, top.first);
    const bool good = leads_earlier(next, top.second);
    top.second = either(best, top.first, either(good, next, top.second));
    top.first = either(best, next, top.first);
}
template <class A, class Index>
RR_HD void settle(Top2<A, Index>& top, Index count) {
    settle(top.first, count);
    if (top.second.index == kNoIndex<Index> && count > 1) {
        top.second.index = top.first.index == 0 ? 1 : 0;
    }
}
template <class A, class Index>
RR_HD Top2<A, Index> combine(const Top2<A, Index>& a, const Top2<A, Index>& b) {
    const bool swap = leads(b.first, a.first);
    const Candidate<A, Index> first = either(swap, b.first, a.first);
    const Candidate<A, Index> beaten = either(swap, a.first, b.first);
    const Candidate<A, Index> second = either(swap, b.second, a.second);
    return {first, either(leads(beaten, second), beaten, second)};
}

// Whether a row of logits is undefined, from its largest logit: one is NaN, one has overflowed by
// an unknown amount, or all classes are masked with -infinity.
template <class A>
RR_HD bool is_undefined(A largest) {
    return !(largest > -infinity<A>() && largest < infinity<A>());
}

// The lead of the prediction: infinite if all other classes are masked. Larger finite differences
// become the largest number.
template <class A>
RR_HD A margin_of(A first, A second) {
    const A lead = first - second;
    const A held = lead > kLargest<A> && second > -infinity<A>() ? kLargest<A> : lead;
    return is_undefined(first) ? nan<A>() : held;
}

}  // namespace rrfast
