// The mathematics of every op in one place: functors on single values that the CPU and the CUDA
// kernels share, so that testing one tests the other. Everything is written so that both compilers
// give the same bits: no contraction to fused multiply-adds (build flags), no library function in
// float32, ties by the lowest index.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define RR_HD __host__ __device__ __forceinline__
#else
// Always inlined, because the CPU kernels are compiled once per instruction set and the linker must
// not merge copies.
#define RR_HD inline __attribute__((always_inline))
#endif

namespace rrfast {

using index_t = std::int64_t;

// ----------------------------------------------------------------------------------------------------
// element types

// Storage of the two 16-bit formats. They are only loaded, widened, and stored rounded.
struct bfloat16 {
    std::uint16_t bits;
};
struct float16 {
    std::uint16_t bits;
};

// The type a kernel computes in: float32 for all but float64.
template <class T>
struct accumulate {
    using type = float;
};
template <>
struct accumulate<double> {
    using type = double;
};
template <class T>
using accumulate_t = typename accumulate<T>::type;

// Calls a macro with every element type: for explicit instantiations.
#define RR_FOR_EACH_TYPE(X) X(float) X(double) X(::rrfast::bfloat16) X(::rrfast::float16)

template <class To, class From>
RR_HD To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
    To to;
    memcpy(&to, &from, sizeof(To));
    return to;
}

template <class A>
RR_HD bool is_nan(A v) {
    return v != v;
}
template <class A>
RR_HD A nan() {
    return static_cast<A>(NAN);
}
template <class A>
RR_HD A infinity() {
    return static_cast<A>(INFINITY);
}
template <class A>
constexpr A kLargest = std::numeric_limits<A>::max();

// NaN if one of them is.
template <class A>
RR_HD A larger(A a, A b) {
    return a > b || is_nan(a) ? a : b;
}
template <class A>
RR_HD A smaller(A a, A b) {
    return a < b || is_nan(a) ? a : b;
}

RR_HD float widen(float v) { return v; }
RR_HD double widen(double v) { return v; }
RR_HD float widen(bfloat16 v) { return bit_cast<float>(static_cast<std::uint32_t>(v.bits) << 16); }
RR_HD float widen(float16 v) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(v.bits));
#else
    // Shift exponent and mantissa into place and rescale by 2^112: the multiplication normalises
    // subnormals by itself, and there is no branch to stop vectorisation. Exponent 31 (infinity,
    // NaN) needs the float32 exponent filled up.
    const std::uint32_t magnitude = static_cast<std::uint32_t>(v.bits & 0x7fffu) << 13;
    const std::uint32_t sign = static_cast<std::uint32_t>(v.bits & 0x8000u) << 16;
    const std::uint32_t finite = bit_cast<std::uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
    const std::uint32_t special = magnitude | 0x7f800000u;
    return bit_cast<float>(sign | (magnitude >= 0x0f800000u ? special : finite));
#endif
}

// Rounding to storage is to nearest, ties to even, as torch's own casts. A pair of 16-bit values,
// the first in the low half, is one instruction of a GPU.
template <class T>
struct narrow;

template <>
struct narrow<float> {
    static RR_HD float from(float v) { return v; }
};
template <>
struct narrow<double> {
    static RR_HD double from(double v) { return v; }
};
template <>
struct narrow<bfloat16> {
    static RR_HD bfloat16 from(float v) {
#ifdef __CUDA_ARCH__
        return {__bfloat16_as_ushort(__float2bfloat16_rn(v))};
#else
        const std::uint32_t bits = bit_cast<std::uint32_t>(v);
        const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        return {static_cast<std::uint16_t>(is_nan(v) ? 0x7fc0u : rounded)};
#endif
    }
#ifdef __CUDA_ARCH__
    static __device__ __forceinline__ std::uint32_t pair(float first, float second) {
        return bit_cast<std::uint32_t>(__floats2bfloat162_rn(first, second));
    }
#endif
};
template <>
struct narrow<float16> {
    static RR_HD float16 from(float v) {
#ifdef __CUDA_ARCH__
        return {__half_as_ushort(__float2half_rn(v))};
#else
        const std::uint32_t bits = bit_cast<std::uint32_t>(v);
        const std::uint32_t magnitude = bits & 0x7fffffffu;
        // Below 2^-14 the result is subnormal: adding 0.5 leaves the rounded mantissa in the low
        // bits of the sum.
        const std::uint32_t subnormal =
            bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
        const std::uint32_t normal = (magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u)) >> 13;
        const std::uint32_t overflow = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
        const std::uint32_t half = magnitude < 0x38800000u   ? subnormal
                                   : magnitude < 0x477ff000u ? normal
                                                             : overflow;
        return {static_cast<std::uint16_t>(half | ((bits >> 16) & 0x8000u))};
#endif
    }
#ifdef __CUDA_ARCH__
    static __device__ __forceinline__ std::uint32_t pair(float first, float second) {
        return bit_cast<std::uint32_t>(__floats2half2_rn(first, second));
    }
#endif
};

// -------------------------------------------------------------------------------------------------------
// exponential and logarithm, in float32 our own, because they vectorise on every compiler and give
// the CPU and the GPU the same bits

// e^x = power * (1 + excess) for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2; n comes out of the
// low bits of a sum with 1.5 * 2^23, the polynomial is a Chebyshev fit of (e^r - 1 - r) / r^2.
// Below kLowestExponent, e^x is less than the smallest normal number, and `power` is meaningless.
struct ExpParts {
    float power;
    float excess;
};
constexpr float kLowestExponent = -87.3365402f;
RR_HD ExpParts exp_parts(float x) {
    const float magic = 12582912.0f;
    const float shifted = x * 1.44269504f + magic;
    const float n = shifted - magic;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 0.00139338232f;
    p = p * r + 0.00836329535f;
    p = p * r + 0.041666463f;
    p = p * r + 0.166665763f;
    p = p * r + 0.5f;
    const float power = bit_cast<float>((bit_cast<std::uint32_t>(shifted) << 23) + 0x3f800000u);
    return {power, p * (r * r) + r};
}

// e^x for x <= 0, within 1.05 ulp; 0 below the smallest normal result; NaN for NaN.
RR_HD float exp_nonpositive(float x) {
    const ExpParts e = exp_parts(x);
    return x < kLowestExponent ? 0.0f : (e.excess + 1.0f) * e.power;
}
RR_HD double exp_nonpositive(double x) { return exp(x); }

// e^x - 1 for x <= 0, to 2^-23 of itself; NaN for NaN. The power less one is exact, and 0 for small
// x.
RR_HD float expm1_nonpositive(float x) {
    const ExpParts e = exp_parts(x);
    return x < kLowestExponent ? -1.0f : e.power * e.excess + (e.power - 1.0f);
}
RR_HD double expm1_nonpositive(double x) { return expm1(x); }

// log(1 + x) for finite x >= 0, to 2^-22 of itself; NaN for NaN. 1 + x = 2^n (1 + f) with 1 + f in
// [sqrt(1/2), sqrt(2)], and f has one rounding, because up to x = 2^24 all else in it is exact.
// log(1 + f) = 2 atanh(s), s = f / (2 + f), as a Taylor series: its first term left out is 2e-9 of
// the first.
RR_HD float log1p_nonnegative(float x) {
    const std::uint32_t bits = bit_cast<std::uint32_t>((1.0f + x) * 1.41421356f) & 0x7f800000u;
    const float scale = bit_cast<float>(0x7f000000u - bits);  // 2^-n
    const float n = static_cast<float>(static_cast<std::int32_t>(bits >> 23) - 127);
    const float f = x * scale + (scale - 1.0f);
    const float s = f / (2.0f + f);
    const float z = s * s;
    float p = 1.0f / 9.0f;
    p = p * z + 1.0f / 7.0f;
    p = p * z + 1.0f / 5.0f;
    p = p * z + 1.0f / 3.0f;
    const float series = 2.0f * (p * z * s + s);
    return n * 0.693359375f + (series - n * 2.12194440e-4f);
}
RR_HD double log1p_nonnegative(double x) { return log1p(x); }

// Correctly rounded by both compilers, as IEEE 754 requires.
RR_HD float square_root(float x) { return sqrtf(x); }
RR_HD double square_root(double x) { return sqrt(x); }

// ---------------------------------------------------------------------------------- rows of
// logits: the two best classes

// NaN ranks above every number, as in torch.argmax.
template <class A>
RR_HD bool ranks_above(A v, A w) {
    return v > w || (is_nan(v) && !is_nan(w));
}
template <class A>
RR_HD bool ranks_equal(A v, A w) {
    return v == w || (is_nan(v) && is_nan(w));
}

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

// ---------------------------------------------------------------------------------------------------------
// probability_margin

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

// -----------------------------------------------------------------------------------------------------
// direction_seed

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

// -------------------------------------------------------------------------------------------
// loss_seed

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

// -------------------------------------------------------------------------------------------
// fgsm_step, perturb, rat_perturb

// A direction is packed in one byte: -1, 0, +1, and a code for the sign of NaN, so that a broken
// gradient shows.
constexpr std::int8_t kNanDirection = -128;

template <class A>
RR_HD std::int8_t pack_sign(A gradient) {
    const int sign = (gradient > A(0)) - (gradient < A(0));
    return static_cast<std::int8_t>(is_nan(gradient) ? kNanDirection : sign);
}
template <class A>
RR_HD A unpack_sign(std::int8_t direction) {
    return direction == kNanDirection ? nan<A>() : static_cast<A>(direction);
}

// The sign of a training step: an element whose gradient is NaN does not move. With a gradient
// scaler, overflow is an ordinary event that shows in the parameters' gradients; an input of NaN
// would spoil BatchNorm's running statistics permanently.
template <class A>
RR_HD A sign_or_zero(A gradient) {
    const A positive = gradient > A(0) ? A(1) : A(0);
    return gradient < A(0) ? A(-1) : positive;
}

// The unit of a step and the box of a channel.
template <class A>
struct Channel {
    A scale;
    A lower;
    A upper;
};

// clamp(x + length * sign, lower, upper), where length = step * scale; NaN passes through the
// clamp, as in torch.clamp.
template <class A>
RR_HD A moved(A x, A length, A sign, const Channel<A>& channel) {
    const A v = x + length * sign;
    const A raised = v < channel.lower ? channel.lower : v;
    return raised > channel.upper ? channel.upper : raised;
}

// The channels of a batch. Element i of a sample, in memory order, belongs to channel (i / inner) %
// channels: inner = H * W for a contiguous [B, C, H, W], 1 for channels-last. A null pointer means
// no bounds, or unit scale; a stride of 0 means that one value serves all channels.
template <class A>
struct Channels {
    const A* lower = nullptr;  // [channels] or [1]
    const A* upper = nullptr;  // [channels] or [1]
    const A* scale = nullptr;  // [channels] or [1]
    index_t bounds_stride = 0;
    index_t scale_stride = 0;
    index_t channels = 1;
    index_t inner = 1;

    RR_HD bool uniform() const { return bounds_stride == 0 && scale_stride == 0; }
    RR_HD A unit(index_t channel) const { return scale ? scale[channel * scale_stride] : A(1); }
    RR_HD Channel<A> at(index_t channel) const {
        const A low = lower ? lower[channel * bounds_stride] : -infinity<A>();
        const A high = upper ? upper[channel * bounds_stride] : infinity<A>();
        // A bound of NaN makes every result NaN, as in torch.clamp. Passing it on through the unit
        // costs the clamp nothing; with one more comparison, compilers would no longer vectorise
        // it.
        return {is_nan(low) || is_nan(high) ? nan<A>() : unit(channel), low, high};
    }
};

// -------------------------------------------------------------------------------------------------------
// linear_radius

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

// ---------------------------------------------------------------------------------------------------------
// plane_seed

// The least and the largest logit of a row; NaN if one is.
template <class A>
struct Range {
    A least;
    A largest;
};
template <class A>
RR_HD Range<A> empty_range() {
    return {infinity<A>(), -infinity<A>()};
}
template <class A>
RR_HD Range<A> combine(const Range<A>& a, const Range<A>& b) {
    return {smaller(a.least, b.least), larger(a.largest, b.largest)};
}

// e of v = m 2^e with m in [1/2, 1), for v > 0; at most -126 (-1022) for subnormal v.
RR_HD int exponent_of(float v) { return static_cast<int>(bit_cast<std::uint32_t>(v) >> 23) - 126; }
RR_HD int exponent_of(double v) {
    return static_cast<int>(bit_cast<std::uint64_t>(v) >> 52) - 1022;
}
// 2^e, a normal number.
template <class A>
RR_HD A power_of_two(int e);
template <>
RR_HD float power_of_two<float>(int e) {
    return bit_cast<float>(static_cast<std::uint32_t>(e + 127) << 23);
}
template <>
RR_HD double power_of_two<double>(int e) {
    return bit_cast<double>(static_cast<std::uint64_t>(e + 1023) << 52);
}

// What logits and gradients are multiplied by, so that neither end of the range is near: 1 over a
// power of two near the largest |logit|, within the square root of the range. float16 has too small
// a range for scaled gradients. Masked classes do not count.
template <class T>
constexpr int kLargestExponent = 64;
template <>
constexpr int kLargestExponent<double> = 512;
template <>
constexpr int kLargestExponent<float16> = 0;
template <class T, class A = accumulate_t<T>>
RR_HD A plane_unit(const Range<A>& row) {
    const A low = row.least < A(0) ? -row.least : row.least;
    const A high = row.largest < A(0) ? -row.largest : row.largest;
    const A size = larger(low < infinity<A>() ? low : A(0), high);
    const int exponent = size > A(0) && size < infinity<A>() ? exponent_of(size) : 1;
    const int most = kLargestExponent<T>;
    const int raised = exponent < -most ? -most : exponent;
    return power_of_two<A>(-(raised > most ? most : raised));
}

// h_y - h_k in that unit; at least one unit in the last place of h_y unless y is behind, since
// 16-bit logits tie over a wide strip before the boundary. NaN for undefined logits.
template <class T>
constexpr accumulate_t<T> kDigit = 0x1p-23f;
template <>
constexpr double kDigit<double> = 0x1p-52;
template <>
constexpr float kDigit<bfloat16> = 0x1p-7f;
template <>
constexpr float kDigit<float16> = 0x1p-10f;
template <class T, class A = accumulate_t<T>>
RR_HD A plane_gap(A top, A other, A unit, A largest) {
    const A first = top * unit;
    const A gap = first - other * unit;
    const A digit = kDigit<T> * (first < A(0) ? -first : first);
    const A held = gap < A(0) ? gap : larger(gap, digit);
    return is_undefined(largest) ? nan<A>() : held;
}
// The cotangent of h_k - h_y in that unit, at class i.
template <class A, class Index, class Class>
RR_HD A plane_cotangent(Index i, Class target, Class prediction, A unit) {
    const A up = static_cast<Class>(i) == target ? unit : A(0);
    return static_cast<Class>(i) == prediction ? -unit : up;
}

// ---------------------------------------------------------------------------------------------------------
// plane_distance

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

// ---------------------------------------------------------------------------------------------------------
// probe_step

// The distance of the plane, or the longest step if that is infinite or NaN; never so short that
// rounding of the largest x would leave nothing of it.
template <class A>
RR_HD A probe_length(A distance, A largest, A finest, A longest) {
    const A wanted = distance < infinity<A>() ? distance : longest;
    const A length = larger(wanted, largest * finest);
    return smaller(length, longest);
}

// ---------------------------------------------------------------------------------------------------------
// redirect

// z_i - x_i in the dtype of x, for the point z at a step along a sign. length = step * scale.
template <class T, class A = accumulate_t<T>>
RR_HD A displacement(A x, A length, A sign, const Channel<A>& channel) {
    const A z = widen(narrow<T>::from(moved(x, length, sign, channel)));
    return widen(narrow<T>::from(z - x));
}

// Where a ray crosses a plane that is `gap` from x, if `step` along the ray closes `way` of it;
// infinity for nowhere.
template <class A>
RR_HD A ray_crossing(A step, A gap, A way) {
    const A at = step * gap / way;
    return at > A(0) ? at : infinity<A>();
}

// What the plane says of the ray from which it was seen.
template <class A>
struct SeenPlane {
    A gap;       // from x
    A crossing;  // of the ray
    A probe;     // the crossing, or where the search goes on if there is none
    bool nearer;
};
// `gap` is that from z, `next` what the search says, `nearest` the crossing of the nearest ray so
// far, NaN for none.
template <class A>
RR_HD SeenPlane<A> seen_plane(A step, A gap, A way, A next, A nearest) {
    const A whole = gap + way;
    const A crossing = ray_crossing(step, whole, way);
    return {whole, crossing, crossing < infinity<A>() ? crossing : next, !(crossing >= nearest)};
}

// Both for one sample: state [6] of its search and rival; nearest [8] and flipped_to, which learn
// from them. Numbers of a sample are `samples` apart.
template <class A>
RR_HD void learn_from_ray(const SeenPlane<A>& seen, const A* state, index_t rival, index_t samples,
                          A* nearest, index_t* flipped_to) {
    if (seen.nearer) {
        for (index_t row = 0; row < 5; ++row) {
            nearest[row * samples] = state[row * samples];
        }
        nearest[5 * samples] = seen.probe;
        nearest[6 * samples] = seen.crossing;
    }
    if (state[samples] < nearest[7 * samples]) {
        nearest[7 * samples] = state[samples];
        *flipped_to = rival;
    }
}

// What a normal is multiplied by, so that scale_c |normal_i| has mean 1: `size` is their sum. 0
// where there is none.
template <class A, class S>
RR_HD A normal_factor(S size, A elements) {
    const A factor = newton_step(Faces<S>{S(0), size, infinity<S>()}, A(0), elements, A(1)).step;
    return factor == infinity<A>() ? A(0) : factor;
}

// Half of the aim, half of the normal.
template <class A>
RR_HD A redirected(A aim, A normal) {
    return aim - (aim - normal) * A(0.5);
}

// The step along the new ray: its crossing with the plane, as a look at `probe` tells, and `probe`
// itself if there is none; no further than the smallest step that flipped.
template <class A>
RR_HD A redirected_step(A probe, A gap, A way, A flipped) {
    const A reach = ray_crossing(probe, gap, way);
    return smaller(reach < infinity<A>() ? reach : probe, flipped);
}

// ---------------------------------------------------------------------------------------------------------
// bisection_step

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

// ---------------------------------------------------------------------------------------------------------
// search_step

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
