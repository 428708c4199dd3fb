// Exponential and logarithm, in float32 our own: they vectorise on every compiler, and give the CPU
// and the GPU the same bits.
#pragma once

#include <cmath>

#include "numbers.h"

namespace rrfast {

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

}  // namespace rrfast
