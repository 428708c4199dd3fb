// Random arguments of every op: rows and images of every length that a kernel treats differently,
// with ties, zeros of both signs, NaN, infinities and subnormal numbers.
#pragma once

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tensors.h"

namespace rrfast {

class Draw {
public:
    explicit Draw(unsigned long seed) : bits_(seed) {}
    index_t below(index_t n) { return std::uniform_int_distribution<index_t>(0, n - 1)(bits_); }
    bool chance(double p) { return uniform() < p; }
    double uniform() { return std::uniform_real_distribution<>()(bits_); }
    double normal() { return std::normal_distribution<>()(bits_); }
    template <class V>
    V of(std::initializer_list<V> values) {
        return values.begin()[below(static_cast<index_t>(values.size()))];
    }
    // Elements that a tensor begins after an aligned address: as many as the one before, or others.
    index_t shift() {
        shift_ = chance(0.6) ? shift_ : of<index_t>({0, 0, 0, 0, 1, 2, 3, 4, 8});
        return shift_;
    }

private:
    std::mt19937_64 bits_;
    index_t shift_ = of<index_t>({0, 0, 1, 2, 3, 5});
};

template <class T>
constexpr double kUnit = std::numeric_limits<T>::epsilon() / 2;
template <>
constexpr double kUnit<bfloat16> = 0x1p-8;
template <>
constexpr double kUnit<float16> = 0x1p-11;

template <class T>
std::vector<T> narrowed(const std::vector<double>& values) {
    std::vector<T> result;
    for (const double v : values) {
        result.push_back(narrow<T>::from(static_cast<accumulate_t<T>>(v)));
    }
    return result;
}
template <class T>
std::vector<double> widened(const std::vector<T>& values) {
    std::vector<double> result;
    for (const T& v : values) {
        result.push_back(widen(v));
    }
    return result;
}

struct Rows {
    index_t samples, classes;
};
inline Rows rows(Draw& draw) {
    const double kind = draw.uniform();
    const index_t classes =
        kind < 0.02   ? draw.of<index_t>({50'000, 50'002, 50'004, 65'536, 99'999, 100'000})
        : kind < 0.25 ? 2 + draw.below(3000)
                      : draw.of<index_t>({2,    3,    4,    5,    7,    8,    9,    10,   15,
                                          16,   17,   31,   32,   33,   63,   64,   65,   100,
                                          127,  128,  129,  255,  256,  257,  500,  511,  512,
                                          513,  1000, 1001, 1008, 1022, 1023, 1024, 1025, 1026,
                                          1032, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 21841});
    return {classes > 20'000  ? 1
            : classes > 3'000 ? 1 + draw.below(3)
                              : draw.of<index_t>({1, 2, 3, 4, 5, 7, 8, 9, 33}),
            classes};
}

inline std::vector<double> logits(Draw& draw, const Rows& r) {
    const double spread = draw.of({0.1, 1.0, 4.0, 30.0, 1e4});
    const index_t kind = draw.below(9);
    std::vector<double> h;
    for (index_t b = 0; b < r.samples; ++b) {
        const double level = draw.normal();
        const index_t one = draw.below(r.classes);
        const double at_one = draw.of<double>({0, -INFINITY, NAN, INFINITY});
        for (index_t k = 0; k < r.classes; ++k) {
            const double value = spread * draw.normal();
            h.push_back(kind == 1   ? std::floor(5 * draw.uniform()) - 2
                        : kind == 2 ? draw.chance(0.01) ? NAN : value
                        : kind == 3 ? draw.chance(0.3) ? -INFINITY : value
                        : kind == 4 ? draw.chance(2.0 / r.classes) ? INFINITY : value
                        : kind == 5 ? k == one ? at_one : -INFINITY
                        : kind == 6 ? std::copysign(0.0, value)
                        : kind == 7 ? level + (k == one ? 5 : 0)
                                    : value);
        }
    }
    return h;
}
// Mostly the largest; also others, and what is no class.
inline std::vector<index_t> labels(Draw& draw, const Rows& r, const std::vector<double>& h) {
    std::vector<index_t> y;
    for (index_t b = 0; b < r.samples; ++b) {
        index_t best = 0;
        for (index_t k = 1; k < r.classes; ++k) {
            best = h[b * r.classes + k] > h[b * r.classes + best] ? k : best;
        }
        y.push_back(draw.chance(0.6) ? best : draw.below(r.classes + 2) - 1);
    }
    return y;
}
template <class A>
std::vector<A> numbers(Draw& draw, index_t count) {
    std::vector<A> values;
    for (index_t i = 0; i < count; ++i) {
        values.push_back(static_cast<A>(draw.chance(0.05) ? draw.of<double>({INFINITY, NAN, 0})
                                                          : draw.normal()));
    }
    return values;
}

// Samples of `channels` planes, or, channels-last, of as many numbers for every place.
struct Images {
    index_t samples, channels, places;
    bool channels_last;

    index_t elements() const { return channels * places; }
};
inline Images images(Draw& draw) {
    const index_t samples = draw.of<index_t>({1, 1, 2, 3, 5, 17});
    switch (draw.below(7)) {
        case 0:
            return {samples, draw.of<index_t>({1, 2, 3, 5, 300}), 1, false};
        case 1:
            return {samples, 1 + draw.below(4000), 1, false};
        case 2:
            return {samples, draw.of<index_t>({1024, 4096, 8192, 16384, 16383, 16385}), 1, false};
        case 3:
            return {samples, 1 + draw.below(9), 7 * (1 + draw.below(9)), draw.chance(0.4)};
        case 4:  // vectors fill a sample, and not a plane
            return {samples, 4, draw.of<index_t>({1025, 2049, 2050}), draw.chance(0.2)};
        case 5:
            return {samples, 3, draw.of<index_t>({1024, 4096, 784}), draw.chance(0.4)};
        default:
            return {samples, 3, (1 + draw.below(40)) * (1 + draw.below(40)), draw.chance(0.4)};
    }
}
struct Pixels {
    std::vector<double> x, slope;
};
inline Pixels pixels(Draw& draw, const Images& shape) {
    const index_t kind = draw.below(7);
    Pixels p;
    for (index_t i = 0; i < shape.samples * shape.elements(); ++i) {
        const double x = draw.uniform(), slope = draw.chance(0.2) ? 0 : draw.normal();
        const bool rare = draw.chance(0.01);
        p.x.push_back(kind == 2 && rare   ? NAN
                      : kind == 3         ? x * 1e-40
                      : kind == 4 && rare ? INFINITY
                      : kind == 5         ? std::round(x)
                      : kind == 6         ? 3 * x - 1.5
                                          : x);
        p.slope.push_back(kind == 1 && rare ? NAN : kind == 3 ? slope * 1e-40 : slope);
    }
    return p;
}

// A box and a unit, for all channels or for each, or none.
template <class A>
struct Box {
    Tensor<A> lower, upper, scale;
    Channels<A> on_device, on_host;

    Box(Draw& draw, const Images& shape)
        : lower(values(draw, shape, 0), 0),
          upper(values(draw, shape, 0.5), 0),
          scale(values(draw, shape, 0.1), 0) {
        const bool each = draw.chance(0.5), each_scale = draw.chance(0.5);
        on_host.channels = shape.channels;
        on_host.inner = shape.channels_last ? 1 : shape.places;
        on_host.bounds_stride = each;
        on_host.scale_stride = each_scale;
        on_device = on_host;
        if (draw.chance(0.7)) {
            on_host.lower = lower.host.data();
            on_host.upper = upper.host.data();
            on_device.lower = lower.device();
            on_device.upper = upper.device();
        } else {
            on_host.bounds_stride = on_device.bounds_stride = 0;
        }
        if (draw.chance(0.6)) {
            on_host.scale = scale.host.data();
            on_device.scale = scale.device();
        } else {
            on_host.scale_stride = on_device.scale_stride = 0;
        }
    }

private:
    static std::vector<A> values(Draw& draw, const Images& shape, double from) {
        std::vector<A> result;
        for (index_t c = 0; c < shape.channels; ++c) {
            result.push_back(static_cast<A>(from + 0.5 * draw.uniform()));
        }
        // A bound may be missing on one side, or broken; a unit may not.
        if (from != 0.1 && draw.chance(0.15)) {
            result[draw.below(shape.channels)] = static_cast<A>(draw.chance(0.3) ? NAN
                                                                : from == 0      ? -INFINITY
                                                                                 : INFINITY);
        }
        return result;
    }
};

}  // namespace rrfast
