// Every launcher of csrc/kernels against the CPU's kernels, on random arguments: every element
// type, rows and images of every length, unaligned, NaN, infinities, ties, channels. Knows no
// torch, so that it serves the emulator here, and NVIDIA's compute-sanitizer on a GPU.
//
//     every_kernel [--seed S] [--seconds T | --cases N] [OP...]
//     every_kernel [--seed S] --every N    until every kernel has been launched N times
//     every_kernel --huge                  tensors of more than 2^31 and 2^32 elements
//
// Case number i of seed S is case 0 of seed S + i, the same on a GPU and emulated. A failure prints
// its seed and sets the status; so does a kernel that --every does not reach.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "arguments.h"
#include "csrc/cpu/kernels.h"
#include "csrc/math/probe_step.h"
#include "csrc/math/redirect.h"
#include "huge.h"

using namespace rrfast;

#ifdef RRFAST_EMULATED
using emulated::launched;
#else
// The linker sends every launch through here (--wrap).
std::map<const void*, unsigned long> launched;
extern "C" cudaError_t __real_cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**);
extern "C" cudaError_t __wrap_cudaLaunchKernelExC(const cudaLaunchConfig_t* config,
                                                  const void* kernel, void** arguments) {
    ++launched[kernel];
    return __real_cudaLaunchKernelExC(config, kernel, arguments);
}
#endif

namespace {

std::string text(const Rows& r) {
    return std::to_string(r.samples) + " x " + std::to_string(r.classes);
}
std::string text(const Images& shape) {
    return std::to_string(shape.samples) + " x " + std::to_string(shape.channels) + " x " +
           std::to_string(shape.places) + (shape.channels_last ? ", channels last" : "");
}

template <class T>
std::string direction_seed(Draw& draw) {
    using A = accumulate_t<T>;
    const Rows r = rows(draw);
    const double temperature = draw.of({1.0, 0.2, 1000.0, 0.0, 2.5});
    const Tensor<T> h(narrowed<T>(logits(draw, r)), draw.shift());
    const Tensor<index_t> prediction(untouched<index_t>(r.samples), 0), second(prediction.host, 0);
    const Tensor<A> margin(untouched<A>(r.samples), 0), clear(margin.host, 0);
    const Tensor<T> seed(untouched<T>(r.samples * r.classes), draw.shift());
    expect_success(cuda::direction_seed(h.device(), r.samples, r.classes, temperature,
                                        prediction.device(), margin.device(), seed.device(),
                                        second.device(), clear.device(), nullptr),
                   "launch");
    auto p = prediction.host, s = second.host;
    auto m = margin.host, c = clear.host;
    auto q = seed.host;
    cpu::kernels<T>().direction_seed(h.host.data(), 0, r.samples, r.classes, temperature, p.data(),
                                     m.data(), q.data(), s.data(), c.data());
    expect_same("prediction", prediction, p);
    expect_same("runner_up", second, s);
    expect_equal("margin", margin, m);
    expect_equal("clear", clear, c);
    // The bound that TestDirectionSeed.tolerance derives.
    const double additions =
        (r.classes < 128 ? r.classes : 64 + r.classes / 512) * (r.classes > 8192 ? 5 : 1);
    expect_close("seed", seed, q,
                 2 * (4 + additions) * kUnit<A> + (sizeof(T) == 2 ? 2 * kUnit<T> : 0));
    return text(r) + ", T = " + std::to_string(temperature);
}

template <class T>
std::string linear_radius(Draw& draw) {
    using A = accumulate_t<T>;
    const Rows r = rows(draw);
    const std::vector<double> clean = logits(draw, r);
    const Tensor<T> h0(narrowed<T>(clean), draw.shift());
    const Tensor<T> h1(narrowed<T>(logits(draw, r)), draw.shift());
    const Tensor<index_t> y(labels(draw, r, clean), 0);
    const Tensor<A> radius(untouched<A>(r.samples), 0), unit(numbers<A>(draw, r.samples), 0);
    const Tensor<index_t> rival(untouched<index_t>(r.samples), 0);
    const double alpha = draw.of({0.01, 1.0});
    const bool scaled = draw.chance(0.5);
    expect_success(cuda::linear_radius(h0.device(), h1.device(), y.device(), r.samples, r.classes,
                                       alpha, scaled ? unit.device() : nullptr, radius.device(),
                                       rival.device(), nullptr),
                   "launch");
    auto expected = radius.host;
    auto who = rival.host;
    cpu::kernels<T>().linear_radius(h0.host.data(), h1.host.data(), y.host.data(), 0, r.samples,
                                    r.classes, alpha, scaled ? unit.host.data() : nullptr,
                                    expected.data(), who.data());
    expect_equal("radius", radius, expected);
    expect_same("rival", rival, who);
    return text(r);
}

template <class T>
std::string bisection_step(Draw& draw) {
    using A = accumulate_t<T>;
    const Rows r = rows(draw);
    const std::vector<double> wide = logits(draw, r);
    const Tensor<T> h(narrowed<T>(wide), draw.shift());
    const Tensor<index_t> y(labels(draw, r, wide), 0), rival(untouched<index_t>(r.samples), 0);
    const Tensor<A> lower(numbers<A>(draw, r.samples), 0), upper(numbers<A>(draw, r.samples), 0),
        radius(numbers<A>(draw, r.samples), 0);
    const bool asked = draw.chance(0.7);
    expect_success(cuda::bisection_step_(h.device(), y.device(), r.samples, r.classes,
                                         lower.device(), upper.device(), radius.device(),
                                         asked ? rival.device() : nullptr, nullptr),
                   "launch");
    auto low = lower.host, high = upper.host, next = radius.host;
    auto who = rival.host;
    cpu::kernels<T>().bisection_step_(h.host.data(), y.host.data(), 0, r.samples, r.classes,
                                      low.data(), high.data(), next.data(),
                                      asked ? who.data() : nullptr);
    expect_same("lower", lower, low);
    expect_same("upper", upper, high);
    expect_same("radius", radius, next);
    expect_same("rival", rival, who);
    return text(r);
}

template <class T>
std::string search_step(Draw& draw) {
    using A = accumulate_t<T>;
    const Rows r = rows(draw);
    const std::vector<double> wide = logits(draw, r);
    const Tensor<T> h(narrowed<T>(wide), draw.shift());
    const Tensor<index_t> y(labels(draw, r, wide), 0), rival(untouched<index_t>(r.samples), 0);
    std::vector<A> values = numbers<A>(draw, 6 * r.samples);
    for (index_t b = 0; b < r.samples; ++b) {  // mostly a bracket: 0 <= lower < upper, and a side
        values[b] = std::abs(values[b]);
        values[r.samples + b] = draw.chance(0.4) ? infinity<A>() : values[b] + A(1);
        values[4 * r.samples + b] = static_cast<A>(draw.below(3) - 1);
    }
    const Tensor<A> state(std::move(values), 0);
    const double nudge = draw.of({0.0, 0.01});
    const bool asked = draw.chance(0.7);
    expect_success(cuda::search_step_(h.device(), y.device(), r.samples, r.classes, nudge,
                                      state.device(), asked ? rival.device() : nullptr, nullptr),
                   "launch");
    auto next = state.host;
    auto who = rival.host;
    cpu::kernels<T>().search_step_(h.host.data(), y.host.data(), 0, r.samples, r.samples, r.classes,
                                   static_cast<A>(nudge), next.data(),
                                   asked ? who.data() : nullptr);
    expect_equal("state", state, next);
    expect_same("rival", rival, who);
    return text(r);
}

template <class T>
std::string plane_seed(Draw& draw) {
    using A = accumulate_t<T>;
    const Rows r = rows(draw);
    const std::vector<double> wide = logits(draw, r);
    const Tensor<T> h(narrowed<T>(wide), draw.shift());
    const Tensor<index_t> y(labels(draw, r, wide), 0), k(labels(draw, r, wide), 0);
    const Tensor<T> seed(untouched<T>(r.samples * r.classes), draw.shift());
    const Tensor<A> gap(untouched<A>(r.samples), 0);
    expect_success(cuda::plane_seed(h.device(), y.device(), k.device(), r.samples, r.classes,
                                    seed.device(), gap.device(), nullptr),
                   "launch");
    auto cotangent = seed.host;
    auto way = gap.host;
    cpu::kernels<T>().plane_seed(h.host.data(), y.host.data(), k.host.data(), 0, r.samples,
                                 r.classes, cotangent.data(), way.data());
    expect_same("seed", seed, cotangent);
    expect_equal("gap", gap, way);
    return text(r);
}

template <class T>
std::string loss_seed(Draw& draw) {
    using A = accumulate_t<T>;
    const Rows r = rows(draw);
    const std::vector<double> wide = logits(draw, r);
    const Tensor<T> h(narrowed<T>(wide), draw.shift());
    const Tensor<index_t> y(labels(draw, r, wide), 0), t(labels(draw, r, wide), 0);
    const Tensor<A> loss(untouched<A>(r.samples), 0);
    const Tensor<T> seed(untouched<T>(r.samples * r.classes), draw.shift());
    auto kind = static_cast<AttackLoss>(draw.below(kAttackLosses));
    kind = r.classes < least_classes(kind) ? AttackLoss::cw : kind;
    const bool asked = kind != AttackLoss::confidence || draw.chance(0.5);
    const bool aims = kind == AttackLoss::dlr_targeted;
    expect_success(
        cuda::loss_seed(h.device(), asked ? y.device() : nullptr, aims ? t.device() : nullptr,
                        r.samples, r.classes, kind, loss.device(), seed.device(), nullptr),
        "launch");
    auto value = loss.host;
    auto slope = seed.host;
    cpu::kernels<T>().loss_seed(h.host.data(), asked ? y.host.data() : nullptr,
                                aims ? t.host.data() : nullptr, 0, r.samples, r.classes, kind,
                                value.data(), slope.data());
    if (is_odds(kind)) {
        // The bounds that TestLossSeed.tolerance derives.
        const double additions = r.classes < 128 ? r.classes : 64 + r.classes / 512;
        double most = 0;
        for (const double v : widened(h.host)) {
            most = std::isfinite(v) ? std::max(most, std::abs(v)) : most;
        }
        expect_close("loss", loss, value,
                     2 * (4 + additions + 6 * std::log(r.classes) + 3 * most) * kUnit<A>);
        expect_close("seed", seed, slope,
                     2 * (4 + additions) * kUnit<A> + (sizeof(T) == 2 ? 2 * kUnit<T> : 0));
    } else {
        expect_equal("loss", loss, value);
        expect_same("seed", seed, slope);
    }
    return text(r) + ", kind " + std::to_string(static_cast<int>(kind));
}

template <class T>
std::string probability_margin(Draw& draw) {
    using A = accumulate_t<T>;
    const Rows r = rows(draw);
    const std::vector<double> wide = logits(draw, r);
    const Tensor<T> h(narrowed<T>(wide), draw.shift());
    const Tensor<index_t> y(labels(draw, r, wide), 0);
    const Tensor<A> margin(untouched<A>(r.samples), 0), ratio(margin.host, 0),
        similarity(margin.host, 0), entropy(margin.host, 0);
    expect_success(
        cuda::probability_margin(h.device(), y.device(), r.samples, r.classes, margin.device(),
                                 ratio.device(), similarity.device(), entropy.device(), nullptr),
        "launch");
    auto m = margin.host, q = m, s = m, e = m;
    cpu::kernels<T>().probability_margin(h.host.data(), y.host.data(), 0, r.samples, r.classes,
                                         m.data(), q.data(), s.data(), e.data());
    // The bounds that TestProbabilityMargin.tolerance derives.
    const double merges = r.classes < 128 ? r.classes : 64 + r.classes / 512;
    const double log = std::log(r.classes);
    const double bound = 2 * (6 * merges + 20 + log) * kUnit<A>;
    expect_close("margin", margin, m, bound);
    expect_close("top2_ratio", ratio, q, bound);
    expect_close("similarity", similarity, s, bound);
    expect_close("entropy", entropy, e, (1 + log) * 2 * (14 * merges + 20 + log) * kUnit<A>);
    return text(r);
}

template <class T>
std::string fgsm_step(Draw& draw) {
    using A = accumulate_t<T>;
    const Images shape = images(draw);
    const Pixels p = pixels(draw, shape);
    const Box<A> box(draw, shape);
    const index_t count = shape.samples * shape.elements();
    const Tensor<T> x(narrowed<T>(p.x), draw.shift()), grad(narrowed<T>(p.slope), draw.shift());
    const Tensor<A> step(numbers<A>(draw, shape.samples), 0);
    const Tensor<T> perturbed(untouched<T>(count), draw.shift());
    const Tensor<std::int8_t> direction(untouched<std::int8_t>(count), draw.shift());
    expect_success(
        cuda::fgsm_step(x.device(), grad.device(), step.device(), box.on_device, shape.samples,
                        shape.elements(), perturbed.device(), direction.device(), nullptr),
        "launch");
    auto moved = perturbed.host;
    auto sign = direction.host;
    cpu::kernels<T>().fgsm_step(x.host.data(), grad.host.data(), step.host.data(), box.on_host, 0,
                                count, shape.elements(), draw.chance(0.5), moved.data(),
                                sign.data());
    expect_same("perturbed", perturbed, moved);
    expect_same("direction", direction, sign);
    return text(shape);
}

template <class T>
std::string perturb(Draw& draw) {
    using A = accumulate_t<T>;
    const Images shape = images(draw);
    const Pixels p = pixels(draw, shape);
    const Box<A> box(draw, shape);
    std::vector<std::int8_t> signs;
    for (const double slope : p.slope) {
        signs.push_back(draw.chance(0.01) ? static_cast<std::int8_t>(draw.below(256) - 128)
                                          : pack_sign(slope));
    }
    const Tensor<T> x(narrowed<T>(p.x), draw.shift());
    const Tensor<std::int8_t> direction(std::move(signs), draw.shift());
    const Tensor<A> step(numbers<A>(draw, shape.samples), 0);
    const Tensor<T> perturbed(untouched<T>(x.host.size()), draw.shift());
    expect_success(cuda::perturb(x.device(), direction.device(), step.device(), box.on_device,
                                 shape.samples, shape.elements(), perturbed.device(), nullptr),
                   "launch");
    auto moved = perturbed.host;
    cpu::kernels<T>().perturb(x.host.data(), direction.host.data(), step.host.data(), box.on_host,
                              0, moved.size(), shape.elements(), draw.chance(0.5), moved.data());
    expect_same("perturbed", perturbed, moved);
    return text(shape);
}

template <class T>
std::string rat_correct(Draw& draw) {
    const Rows r = rows(draw);
    const std::vector<double> wide = logits(draw, r);
    const Tensor<T> h(narrowed<T>(wide), draw.shift());
    const Tensor<index_t> y(labels(draw, r, wide), 0);
    const Tensor<std::uint8_t> correct(untouched<std::uint8_t>(r.samples), 0);
    expect_success(cuda::rat_correct(h.device(), y.device(), r.samples, r.classes,
                                     reinterpret_cast<bool*>(correct.device()), nullptr),
                   "launch");
    auto expected = correct.host;
    cpu::kernels<T>().rat_correct(h.host.data(), y.host.data(), 0, r.samples, r.classes,
                                  reinterpret_cast<bool*>(expected.data()));
    expect_same("correct", correct, expected);
    return text(r);
}

template <class T>
std::string rat_perturb(Draw& draw) {
    using A = accumulate_t<T>;
    const Images shape = images(draw);
    const Pixels p = pixels(draw, shape);
    const Box<A> box(draw, shape);
    std::vector<std::uint8_t> flags;
    for (index_t b = 0; b < shape.samples; ++b) {
        flags.push_back(draw.chance(0.5));
    }
    const Tensor<T> x(narrowed<T>(p.x), draw.shift()), grad(narrowed<T>(p.slope), draw.shift());
    const Tensor<std::uint8_t> correct(std::move(flags), 0);
    const Tensor<T> perturbed(untouched<T>(x.host.size()), draw.shift());
    const A right = static_cast<A>(draw.of({0.03, -0.03})), wrong = static_cast<A>(-0.05);
    expect_success(cuda::rat_perturb(x.device(), grad.device(),
                                     reinterpret_cast<const bool*>(correct.device()), right, wrong,
                                     box.on_device, shape.samples, shape.elements(),
                                     perturbed.device(), nullptr),
                   "launch");
    auto moved = perturbed.host;
    cpu::kernels<T>().rat_perturb(
        x.host.data(), grad.host.data(), reinterpret_cast<const bool*>(correct.host.data()), right,
        wrong, box.on_host, 0, moved.size(), shape.elements(), draw.chance(0.5), moved.data());
    expect_same("perturbed", perturbed, moved);
    return text(shape);
}

template <class T>
std::string plane_distance(Draw& draw) {
    using A = accumulate_t<T>;
    const Images shape = images(draw);
    const Pixels p = pixels(draw, shape);
    const Box<A> box(draw, shape);
    const Tensor<T> x(narrowed<T>(p.x), draw.shift()), normal(narrowed<T>(p.slope), draw.shift());
    std::vector<A> gaps;
    for (index_t b = 0; b < shape.samples; ++b) {
        double size = 0;
        for (index_t i = 0; i < shape.elements(); ++i) {
            const double slope = std::abs(p.slope[b * shape.elements() + i]);
            size += slope < INFINITY ? slope : 0;
        }
        const double share = std::pow(10, 3.5 * draw.uniform() - 3) * draw.of({1, -1});
        gaps.push_back(static_cast<A>(
            draw.chance(0.05) ? draw.of<double>({0, NAN, INFINITY, -INFINITY}) : size * share));
    }
    const Tensor<A> gap(std::move(gaps), 0);
    const Tensor<A> distance(untouched<A>(shape.samples), 0);
    expect_success(
        cuda::plane_distance(x.device(), normal.device(), gap.device(), box.on_device,
                             shape.samples, shape.elements(), distance.device(), nullptr),
        "launch");
    // As in TestPlaneDistance.check, a sum whose terms are off by `error` amounts to a gap that is,
    // and both sides have such sums. The CPU's in the same type: below the smallest normal number
    // terms are off by more, and by the same.
    const double error = 2 * (24 + (sizeof(T) == 8 ? shape.elements() : 0)) * kUnit<A>;
    const auto with_error = [&](double factor) {
        std::vector<A> off = gap.host, result(shape.samples);
        for (A& g : off) {
            g = static_cast<A>(g * factor);
        }
        cpu::kernels<T>().plane_distance(x.host.data(), normal.host.data(), off.data(), box.on_host,
                                         0, shape.samples, shape.elements(), result.data());
        std::vector<double> wide = widened(result);
        for (double& d : wide) {
            d *= factor;
        }
        return wide;
    };
    const std::vector<double> low = with_error(1 - error), high = with_error(1 + error);
    const double tiny = std::numeric_limits<A>::min();
    const std::vector<A> actual = distance.fetched();
    for (index_t b = 0; b < shape.samples; ++b) {
        const double d = actual[b];
        if (std::isnan(low[b]) ? !std::isnan(d) : !(low[b] - tiny <= d && d <= high[b] + tiny)) {
            complain("distance[" + std::to_string(b) + "] is " + shown(d) + ", and not in [" +
                     shown(low[b]) + ", " + shown(high[b]) + "]");
        }
    }
    return text(shape);
}

// The distance is plane_distance's, whose bits the CPU's kernel has by accident only: what is made
// of it is held against `probe_length`.
template <class T>
std::string probe_step(Draw& draw) {
    using A = accumulate_t<T>;
    const Images shape = images(draw);
    const Pixels p = pixels(draw, shape);
    const Box<A> box(draw, shape);
    const Tensor<T> x(narrowed<T>(p.x), draw.shift()), normal(narrowed<T>(p.slope), draw.shift());
    std::vector<A> gaps;
    for (index_t b = 0; b < shape.samples; ++b) {
        gaps.push_back(static_cast<A>(draw.chance(0.1) ? draw.of<double>({0, NAN, INFINITY})
                                                       : std::pow(10, 4 * draw.uniform() - 3)));
    }
    const Tensor<A> gap(std::move(gaps), 0);
    const Tensor<A> distance(untouched<A>(shape.samples), 0), step(distance.host, 0);
    const Tensor<A> largest(distance.host, 0);
    const A finest = static_cast<A>(draw.of({6e-5, 0.0, 0.1})), longest = static_cast<A>(0.01);
    expect_success(
        cuda::plane_distance(x.device(), normal.device(), gap.device(), box.on_device,
                             shape.samples, shape.elements(), distance.device(), nullptr),
        "launch");
    expect_success(cuda::probe_step(x.device(), normal.device(), gap.device(), box.on_device,
                                    shape.samples, shape.elements(), finest, longest, step.device(),
                                    largest.device(), nullptr),
                   "launch");
    std::vector<A> ours(shape.samples), size(shape.samples);
    cpu::kernels<T>().probe_step(x.host.data(), normal.host.data(), gap.host.data(), box.on_host, 0,
                                 shape.samples, shape.elements(), finest, longest, ours.data(),
                                 size.data());
    expect_equal("largest", largest, size);
    const std::vector<A> way = distance.fetched();
    for (index_t b = 0; b < shape.samples; ++b) {
        ours[b] = probe_length(way[b], size[b], finest, longest);
    }
    expect_equal("step", step, ours);
    return text(shape);
}

// The ends of step (gap + way) / by, if both sums are off by so much, as in test_redirect.py.
struct Sum {
    double value, off;
};
struct Ends {
    double low, high;
    bool sure;  // that it is positive and finite
    bool holds(double v) const { return low <= v && v <= high; }
};
template <class A>
Ends crossings(A step, A gap, const Sum& way, const Sum& by) {
    const double most = std::numeric_limits<A>::max();
    if (std::abs(by.value) <= by.off) {
        return {0, INFINITY, false};
    }
    Ends ends{INFINITY, -INFINITY, false};
    for (const double w : {way.value - way.off, way.value + way.off}) {
        for (const double b : {by.value - by.off, by.value + by.off}) {
            const double q = step * (static_cast<double>(gap) + w) / (&way == &by ? w : b);
            ends = {std::isnan(q) ? q : std::min(ends.low, q),
                    std::isnan(q) ? q : std::max(ends.high, q), false};
            if (std::isnan(q)) {
                return std::isfinite(static_cast<double>(gap)) ? Ends{0, INFINITY, false} : ends;
            }
        }
    }
    const double off = 8 * kUnit<A> * std::max(std::abs(ends.low), std::abs(ends.high)) +
                       std::numeric_limits<A>::min();
    ends = {ends.low - off, ends.high + off, ends.low - off > 0 && ends.high + off < most};
    return ends;
}

// One stage after the other, each from what the device found before, as in TestRedirect.check.
template <class T>
std::string redirect(Draw& draw) {
    using A = accumulate_t<T>;
    const Images shape = images(draw);
    const Pixels p = pixels(draw, shape), q = pixels(draw, shape);
    const Box<A> box(draw, shape);
    const index_t b = shape.samples, n = shape.elements();
    std::vector<std::int8_t> signs;
    std::vector<double> aims;
    for (const double slope : q.slope) {
        signs.push_back(draw.chance(0.001) ? kNanDirection : pack_sign(draw.normal()));
        aims.push_back(slope);
    }
    std::vector<A> about = numbers<A>(draw, 8 * b);
    for (index_t i = 0; i < b; ++i) {
        about[6 * b + i] = static_cast<A>(draw.of<double>({NAN, NAN, INFINITY, 0}));
    }
    std::vector<A> lengths = numbers<A>(draw, b);
    for (A& length : lengths) {
        length = draw.chance(0.9) ? std::abs(length) : length;
    }
    const Tensor<T> x(narrowed<T>(p.x), draw.shift()), normal(narrowed<T>(p.slope), draw.shift());
    const Tensor<A> gap(numbers<A>(draw, b), 0), state(numbers<A>(draw, 6 * b), 0);
    const Tensor<index_t> rival(std::vector<index_t>(b, 3), 0),
        flipped_to(untouched<index_t>(b), 0);
    const Tensor<A> step(std::move(lengths), 0), nearest(std::move(about), 0);
    const Tensor<A> aim(narrowed<A>(aims), draw.shift());
    const Tensor<T> z(untouched<T>(b * n), draw.shift());
    const Tensor<std::int8_t> direction(std::move(signs), draw.shift());
    const Tensor<std::int8_t> nearest_direction(untouched<std::int8_t>(b * n), draw.shift());
    expect_success(cuda::redirect_(x.device(), normal.device(), gap.device(), state.device(),
                                   rival.device(), box.on_device, b, n, step.device(), aim.device(),
                                   z.device(), direction.device(), nearest.device(),
                                   nearest_direction.device(), flipped_to.device(), nullptr),
                   "launch");
    const std::vector<A> steps = step.fetched(), turned = aim.fetched(), known = nearest.fetched();
    const std::vector<std::int8_t> sign = direction.fetched();
    const double error = (30 + (sizeof(T) == 8 ? n : 0)) * kUnit<A>;
    std::vector<T> moved_to(b * n);
    std::vector<std::int8_t> packed(b * n), kept = nearest_direction.host;
    std::vector<A> expected = nearest.host;
    std::vector<index_t> who = flipped_to.host;
    for (index_t i = 0; i < b; ++i) {
        const auto channel = [&](index_t e) {
            return box.on_host.at(e / box.on_host.inner % box.on_host.channels);
        };
        const auto closed = [&](A length, const std::vector<std::int8_t>& along) {
            Sum sum{0, std::numeric_limits<A>::min()};
            for (index_t e = 0; e < n; ++e) {
                const Channel<A> c = channel(e);
                const double term = static_cast<double>(widen(normal.host[i * n + e])) *
                                    displacement<T>(widen(x.host[i * n + e]), length * c.scale,
                                                    unpack_sign<A>(along[i * n + e]), c);
                sum.value += term;
                sum.off += error * std::abs(term);
            }
            return sum;
        };
        double size = 0;
        for (index_t e = 0; e < n; ++e) {
            const double unit = box.on_host.unit(e / box.on_host.inner % box.on_host.channels);
            size += std::abs(static_cast<double>(widen(normal.host[i * n + e]))) * unit;
        }
        const double factor = normal_factor(size > kLargest<A> ? NAN : size, static_cast<A>(n));
        for (index_t at = i * n; at < (i + 1) * n; ++at) {
            const Channel<A> c = channel(at - i * n);
            const double own = factor * widen(normal.host[at]), old = aim.host[at];
            const double off =
                (std::abs(own) + std::abs(old)) * error + std::numeric_limits<A>::min();
            if (std::isfinite(off) && !(std::abs(turned[at] - (own + old) / 2) <= off)) {
                complain("aim[" + std::to_string(at) + "] is " + shown(turned[at]) + ", not " +
                         shown((own + old) / 2));
            }
            packed[at] = pack_sign(widen(narrow<T>::from(turned[at])));
            moved_to[at] = narrow<T>::from(
                moved(widen(x.host[at]), steps[i] * c.scale, unpack_sign<A>(packed[at]), c));
        }

        const A length = step.host[i], next = state.host[5 * b + i];
        const A before = nearest.host[6 * b + i];
        const Sum way = closed(length, direction.host);
        const Ends old = crossings(length, gap.host[i], way, way);
        const bool taken = is_nan(before) || !(known[6 * b + i] == before);
        const A crossing = taken ? known[6 * b + i] : infinity<A>();
        const bool lost = before == A(0);
        if (!lost && !old.holds(crossing) && !(crossing == infinity<A>() && !old.sure)) {
            complain("crossing[" + std::to_string(i) + "] is " + shown(crossing) +
                     ", and not in [" + shown(old.low) + ", " + shown(old.high) + "]");
        }
        const SeenPlane<A> seen{A(0), crossing, crossing < infinity<A>() ? crossing : next,
                                !(crossing >= before) && !lost};
        learn_from_ray(seen, state.host.data() + i, rival.host[i], b, expected.data() + i, &who[i]);
        if (seen.nearer) {
            std::copy_n(direction.host.begin() + i * n, n, kept.begin() + i * n);
        }
        const A flipped = expected[7 * b + i];
        const Ends ends = crossings(seen.probe, gap.host[i], way, closed(seen.probe, sign));
        const A other = smaller(seen.probe, flipped);
        const bool none = !ends.sure && (steps[i] == other || (is_nan(steps[i]) && is_nan(other)));
        const bool some =
            Ends{std::min<double>(ends.low, flipped), std::min<double>(ends.high, flipped), true}
                .holds(steps[i]) &&
            ends.high > 0;
        if (!lost && !some && !none && !(is_nan(flipped) && is_nan(steps[i]))) {
            complain("step[" + std::to_string(i) + "] is " + shown(steps[i]) + ", and not in [" +
                     shown(ends.low) + ", " + shown(ends.high) + "]");
        }
    }
    expect_same("z", z, moved_to);
    expect_same("direction", direction, packed);
    expect_same("nearest", nearest, expected);
    expect_same("nearest_direction", nearest_direction, kept);
    expect_same("flipped_to", flipped_to, who);
    return text(shape);
}

using Case = std::string (*)(Draw&);
struct Op {
    const char* name;
    Case cases[4];
};
#define OP(name)                                                            \
    {                                                                       \
        #name, { name<float>, name<double>, name<bfloat16>, name<float16> } \
    }
const Op kOps[] = {OP(direction_seed), OP(linear_radius),      OP(bisection_step), OP(search_step),
                   OP(rat_correct),    OP(probability_margin), OP(fgsm_step),      OP(perturb),
                   OP(rat_perturb),    OP(plane_distance),     OP(plane_seed),     OP(probe_step),
                   OP(redirect),       OP(loss_seed)};
const char* const kTypes[] = {"float", "double", "bfloat16", "float16"};
// A kernel that so many draws do not reach is one that none does.
constexpr unsigned long kDraws = 200'000;

// The kernels that have not been launched so often, of all or of one op and type.
std::vector<std::string> lacking(unsigned long often, const std::string& op = "",
                                 const std::string& type = "") {
    static const cuda::KernelList all = cuda::kernels();
    std::vector<std::string> names;
    for (const cuda::KernelInfo& kernel : all) {
        const auto found = launched.find(kernel.function);
        const unsigned long times = found == launched.end() ? 0 : found->second;
        // Of one tensor no two begin apart, so that single elements are met by float64 alone.
        const bool alone = kernel.name.rfind("bisection_step", 0) == 0 ||
                           kernel.name.rfind("search_step", 0) == 0 ||
                           kernel.name.rfind("rat_correct", 0) == 0;
        if (alone && kernel.name.find(", 1>") != std::string::npos &&
            kernel.name.find("<double") == std::string::npos) {
            continue;
        }
        if (times < often && kernel.name.rfind(op, 0) == 0 &&
            kernel.name.find("<" + type) != std::string::npos) {
            names.push_back(kernel.name);
        }
    }
    return names;
}

}  // namespace

int main(int count, char** arguments) {
    unsigned long seed = 1, cases = 0, every = 0;
    double seconds = 0;
    std::vector<std::string> chosen;
    for (int i = 1; i < count; ++i) {
        const std::string argument = arguments[i];
        if (argument == "--huge") {
            return run_huge() ? 0 : 1;
        } else if (argument == "--every" && i + 1 < count) {
            every = std::strtoul(arguments[++i], nullptr, 10);
        } else if (argument == "--seed" && i + 1 < count) {
            seed = std::strtoul(arguments[++i], nullptr, 10);
        } else if (argument == "--cases" && i + 1 < count) {
            cases = std::strtoul(arguments[++i], nullptr, 10);
        } else if (argument == "--seconds" && i + 1 < count) {
            seconds = std::atof(arguments[++i]);
        } else {
            chosen.push_back(argument);
        }
    }
    std::vector<const Op*> ops;
    for (const Op& op : kOps) {
        if (chosen.empty() || std::find(chosen.begin(), chosen.end(), op.name) != chosen.end()) {
            ops.push_back(&op);
        }
    }
    if (ops.size() != (chosen.empty() ? std::size(kOps) : chosen.size()) ||
        (cases == 0 && seconds == 0 && every == 0) || (every != 0 && !chosen.empty())) {
        std::fprintf(stderr,
                     "every_kernel [--seed S] [--seconds T | --cases N | --every N] [OP...]; ops "
                     "are\n");
        for (const Op& op : kOps) {
            std::fprintf(stderr, "  %s\n", op.name);
        }
        return 2;
    }
    const auto begin = std::chrono::steady_clock::now();
    std::map<std::string, int> ran;
    unsigned long number = 0, failures = 0;
    for (; failures < 10; ++number) {
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
        if (every != 0   ? number >= kDraws || lacking(every).empty()
            : cases != 0 ? number >= cases
                         : taken.count() >= seconds) {
            break;
        }
        Draw draw(seed + number);
        complaint.clear();
        const index_t order = draw.below(1000);
        const unsigned most_blocks = draw.of({0u, 0u, 1u, 2u, 3u}),
                       capability = draw.of({80u, 90u});
#ifdef RRFAST_EMULATED
        emulated::settings.seed = order;
        emulated::settings.most_blocks = most_blocks;
        emulated::settings.capability = capability;
#else
        (void)order, (void)most_blocks, (void)capability;
#endif
        const Op& op = *ops[draw.below(static_cast<index_t>(ops.size()))];
        const index_t type = draw.below(4);
        if (every != 0 && lacking(every, op.name, kTypes[type]).empty()) {
            continue;
        }
        const std::string shape = op.cases[type](draw);
        failures += !passed(std::string(op.name) + " " + kTypes[type] + ", " + shape + ", --seed " +
                            std::to_string(seed + number) + " --cases 1");
        ++ran[op.name];
    }
    std::printf("seeds %lu to %lu:", seed, seed + number - 1);
    for (const auto& [name, times] : ran) {
        std::printf(" %s %d", name.c_str(), times);
    }
    std::printf("; %lu failed\n", failures);
    const std::vector<std::string> never = lacking(every);
    for (const std::string& kernel : never) {
        std::printf("FAILED %s: launched less often than %lu times\n", kernel.c_str(), every);
    }
    return failures != 0 || !never.empty();
}
