// Numbers as the CPU and the CUDA kernels hold them. The headers of this folder are the mathematics
// of every op: functions of single values that both kernels share, so that testing one tests the
// other. Everything is written so that both compilers give the same bits: no contraction to fused
// multiply-adds (build flags), no library function in float32, ties by the lowest index.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define RR_HD __host__ __device__ __forceinline__
#else
// Always inlined, because the CPU kernels are compiled once per instruction set and the linker must
// not merge copies.
#define RR_HD inline __attribute__((always_inline))
#endif

namespace rrfast {

using index_t = std::int64_t;

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

}  // namespace rrfast
