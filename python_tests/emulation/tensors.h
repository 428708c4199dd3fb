// Tensors on the host and on the device, and how results are compared: what the checks of kernels
// are written in. Only CUDA's runtime is needed, or its stand-in.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "csrc/kernels/launch.h"

namespace rrfast {

inline std::string complaint;  // of the case under way; the first counts

inline void complain(const std::string& what) {
    if (complaint.empty()) {
        complaint = what;
    }
}
inline void expect(bool holds, const std::string& what) {
    if (!holds) {
        complain(what);
    }
}
inline void expect_success(cudaError_t status, const char* what) {
    if (status != cudaSuccess) {
        complain(std::string(what) + ": " + cudaGetErrorString(status));
    }
}
inline bool passed(const std::string& what) {
    expect_success(cudaDeviceSynchronize(), "synchronize");
    if (!complaint.empty()) {
        std::printf("FAILED %s: %s\n", what.c_str(), complaint.c_str());
        std::fflush(stdout);
    }
    return complaint.empty();
}

// Values on the host, and on the device, where they begin `shift` elements past an aligned address.
template <class V>
class Tensor {
public:
    std::vector<V> host;

    Tensor(std::vector<V> values, index_t shift) : host(std::move(values)) {
        void* memory = nullptr;
        expect_success(cudaMalloc(&memory, (host.size() + shift) * sizeof(V) + 1), "cudaMalloc");
        memory_ = static_cast<V*>(memory);
        device_ = memory_ + shift;
        expect_success(
            cudaMemcpy(device_, host.data(), host.size() * sizeof(V), cudaMemcpyHostToDevice),
            "cudaMemcpy");
    }
    Tensor(const Tensor&) = delete;
    ~Tensor() { cudaFree(memory_); }

    V* device() const { return device_; }
    std::vector<V> fetched() const {
        std::vector<V> values(host.size());
        expect_success(
            cudaMemcpy(values.data(), device_, host.size() * sizeof(V), cudaMemcpyDeviceToHost),
            "cudaMemcpy");
        return values;
    }

private:
    V* memory_;
    V* device_;
};

// What the device must not leave as it is.
template <class V>
std::vector<V> untouched(index_t count) {
    V value;
    std::memset(&value, 0x5a, sizeof(V));
    return std::vector<V>(count, value);
}

template <class V>
bool same_bits(V a, V b) {
    return std::memcmp(&a, &b, sizeof(V)) == 0;
}
template <class V>
std::string shown(V value) {
    if constexpr (std::is_integral_v<V>) {
        return std::to_string(value);
    } else {
        char text[40];
        std::snprintf(text, sizeof(text), "%.9g", static_cast<double>(widen(value)));
        return text;
    }
}
template <class V, class Agree>
void compare(const char* name, const std::vector<V>& actual, const std::vector<V>& expected,
             const Agree& agree) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (!agree(actual[i], expected[i])) {
            complain(std::string(name) + "[" + std::to_string(i) + "] is " + shown(actual[i]) +
                     ", and on the CPU " + shown(expected[i]));
            return;
        }
    }
}
// The same bits; of NaN, any.
template <class V>
void expect_same(const char* name, const Tensor<V>& actual, const std::vector<V>& expected) {
    compare(name, actual.fetched(), expected, [](V a, V b) {
        if constexpr (!std::is_integral_v<V>) {
            if (is_nan(widen(a)) && is_nan(widen(b))) {
                return true;
            }
        }
        return same_bits(a, b);
    });
}
// Equal numbers: of zeros that tie, either sign leads, in an order of the device's own.
template <class V>
void expect_equal(const char* name, const Tensor<V>& actual, const std::vector<V>& expected) {
    compare(name, actual.fetched(), expected,
            [](V a, V b) { return a == b || (is_nan(a) && is_nan(b)); });
}
template <class V>
void expect_close(const char* name, const Tensor<V>& actual, const std::vector<V>& expected,
                  double tolerance) {
    compare(name, actual.fetched(), expected, [&](V a, V b) {
        const double x = widen(a), y = widen(b);
        return same_bits(x, y) || (std::isnan(x) && std::isnan(y)) || std::abs(x - y) <= tolerance;
    });
}

}  // namespace rrfast
