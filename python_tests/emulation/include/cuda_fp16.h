// What csrc/math/numbers.h takes from CUDA's header of this name, by the host compiler's _Float16.
#pragma once

#include <cstdint>
#include <cstring>

struct __half {
    std::uint16_t bits;
};
struct __half2 {
    __half x, y;
};

inline __half __ushort_as_half(std::uint16_t bits) { return {bits}; }
inline std::uint16_t __half_as_ushort(__half value) { return value.bits; }

inline float __half2float(__half value) {
    _Float16 half;
    std::memcpy(&half, &value.bits, sizeof(half));
    return static_cast<float>(half);
}
inline __half __float2half_rn(float value) {
    if (value != value) {
        return {0x7fff};  // the one NaN that the hardware's conversion gives
    }
    const _Float16 half = static_cast<_Float16>(value);
    __half result;
    std::memcpy(&result.bits, &half, sizeof(half));
    return result;
}
inline __half2 __floats2half2_rn(float x, float y) {
    return {__float2half_rn(x), __float2half_rn(y)};
}
