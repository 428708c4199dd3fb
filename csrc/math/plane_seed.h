// The planes on which another class is as good as the prediction: their gaps and cotangents.
#pragma once

#include "top2.h"

namespace rrfast {

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

}  // namespace rrfast
