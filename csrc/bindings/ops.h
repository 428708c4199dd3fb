// The ops as torch calls them, for any backend: checks, layouts, outputs, element types. A backend
// only has to run a kernel over raw pointers. The checks here are the last line of defence;
// rrfast/ops gives users full error sentences.
//
// An op with results has two forms: `thing_out` writes into tensors that are given, and `thing`
// allocates them and calls it.
#pragma once

#include <tuple>

#include "../math/loss_seed.h"
#include "../math/steps.h"
#include "stable.h"

namespace rrfast {

inline void check_logits(const Tensor& logits) {
    STD_TORCH_CHECK(logits.dim() == 2 && logits.size(1) >= 2,
                    "logits must have shape [B, K] with at least two classes");
}

inline bool same_shape(const Tensor& a, const Tensor& b) {
    bool same = a.dim() == b.dim();
    for (std::int64_t dim = 0; same && dim < a.dim(); ++dim) {
        same = a.size(dim) == b.size(dim);
    }
    return same;
}

inline void check_device(const Tensor& x, const Tensor& other, const char* name) {
    STD_TORCH_CHECK(
        other.is_cuda() == x.is_cuda() && other.get_device_index() == x.get_device_index(), name,
        " must be on the device of the first argument");
}

inline void check_rows(const Tensor& logits, const Tensor& index, const char* name) {
    check_logits(logits);
    check_device(logits, index, name);
    STD_TORCH_CHECK(index.dim() == 1 && index.size(0) == logits.size(0) &&
                        index.scalar_type() == ScalarType::Long,
                    name, " must be int64 of shape [B]");
}

inline void check_same_kind(const Tensor& x, const Tensor& other, const char* name) {
    check_device(x, other, name);
    STD_TORCH_CHECK(other.scalar_type() == x.scalar_type() && same_shape(x, other), name,
                    " must have the shape and dtype of the first argument");
}

inline void check_per_sample(const Tensor& x, const Tensor& values, const char* name) {
    check_device(x, values, name);
    STD_TORCH_CHECK(values.dim() == 1 && values.size(0) == x.size(0) && values.is_contiguous() &&
                        values.scalar_type() == accumulate_dtype(x.scalar_type()),
                    name,
                    " must be contiguous, of shape [B], float32 (float64 for float64 inputs)");
}

// A large result, which must be as the op writes it.
inline void prepare_result(const Tensor& result, const Tensor& like, Layout layout,
                           ScalarType dtype, const char* name) {
    check_device(like, result, name);
    STD_TORCH_CHECK(
        result.scalar_type() == dtype && same_shape(like, result) && lies(result, layout), name,
        " must have the shape and the layout of the first argument, and the dtype of the result");
    in_huge_pages(result);
}
inline void check_vector(const Tensor& result, const Tensor& like, ScalarType dtype,
                         const char* name) {
    check_device(like, result, name);
    STD_TORCH_CHECK(result.dim() == 1 && result.size(0) == like.size(0) && result.is_contiguous() &&
                        result.scalar_type() == dtype,
                    name, " must be contiguous, of shape [B], of the dtype of the result");
}

// A table of numbers, a row of B for each.
inline void check_table(const Tensor& x, const Tensor& table, std::int64_t rows, const char* name) {
    check_device(x, table, name);
    STD_TORCH_CHECK(table.dim() == 2 && table.size(0) == rows && table.size(1) == x.size(0) &&
                        table.is_contiguous() &&
                        table.scalar_type() == accumulate_dtype(x.scalar_type()),
                    name, " must be contiguous, of shape [", rows,
                    ", B], float32 (float64 for float64 inputs)");
}

// An optional output that is changed in place in addition to the state of a search.
inline index_t* rival_pointer(const Tensor& logits, const OptionalTensor& rival) {
    if (!rival) {
        return nullptr;
    }
    check_rows(logits, *rival, "rival");
    STD_TORCH_CHECK(rival->is_contiguous(), "rival must be contiguous");
    return mutable_data<index_t>(*rival);
}

// A batch of samples in the form of the elementwise kernels. It owns the tensors that it points to.
struct Batch {
    Layout layout;
    Tensor x;
    std::int64_t samples;
    std::int64_t elements;  // per sample
    OptionalTensor bounds;  // [2, C] or [2, 1]
    OptionalTensor scale;   // [C] or [1]

    Batch(const Tensor& input, const OptionalTensor& box, const OptionalTensor& unit)
        : layout(layout_of(input)),
          x(laid_out(input, layout)),
          samples(input.size(0)),
          elements(samples ? input.numel() / samples : 0) {
        const ScalarType dtype = accumulate_dtype(input.scalar_type());
        if (box) {
            check_device(input, *box, "bounds");
            STD_TORCH_CHECK(
                box->dim() == 2 && box->size(0) == 2 && fits(box->size(1)) &&
                    box->scalar_type() == dtype,
                "bounds must be of shape [2, C] or [2, 1], float32 (float64 for float64 inputs)");
            bounds = laid_out(*box, Layout::contiguous);
        }
        if (unit) {
            check_device(input, *unit, "scale");
            STD_TORCH_CHECK(
                unit->dim() == 1 && fits(unit->size(0)) && unit->scalar_type() == dtype,
                "scale must be of shape [C] or [1], float32 (float64 for float64 inputs)");
            scale = laid_out(*unit, Layout::contiguous);
        }
    }

    std::int64_t channels() const { return x.dim() > 1 ? x.size(1) : 1; }
    bool fits(std::int64_t length) const { return length == 1 || length == channels(); }

    template <class A>
    Channels<A> parameters() const {
        Channels<A> result;
        result.channels = channels();
        result.inner = layout == Layout::channels_last || elements == 0 ? 1 : elements / channels();
        if (bounds) {
            const std::int64_t width = bounds->size(1);
            result.lower = data<A>(*bounds);
            result.upper = result.lower + width;
            result.bounds_stride = width > 1;
        }
        if (scale) {
            result.scale = data<A>(*scale);
            result.scale_stride = scale->size(0) > 1;
        }
        return result;
    }
};

template <class Backend>
struct Ops {
    static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> direction_seed(const Tensor& logits,
                                                                             double temperature) {
        const std::int64_t samples = logits.size(0);
        const ScalarType dtype = logits.scalar_type();
        Tensor prediction = empty_vector(samples, ScalarType::Long, logits);
        Tensor margin = empty_vector(samples, accumulate_dtype(dtype), logits);
        Tensor seed = empty_like(logits, Layout::contiguous, dtype);
        Tensor runner_up = empty_vector(samples, ScalarType::Long, logits);
        Tensor clear = empty_vector(samples, accumulate_dtype(dtype), logits);
        direction_seed_out(logits, temperature, prediction, margin, seed, runner_up, clear);
        return {prediction, margin, seed, runner_up, clear};
    }
    static void direction_seed_out(const Tensor& logits, double temperature,
                                   const Tensor& prediction, const Tensor& margin,
                                   const Tensor& seed, const Tensor& runner_up,
                                   const Tensor& clear) {
        check_logits(logits);
        const Backend backend(logits);
        const ScalarType dtype = logits.scalar_type();
        check_vector(prediction, logits, ScalarType::Long, "prediction");
        check_vector(margin, logits, accumulate_dtype(dtype), "margin");
        prepare_result(seed, logits, Layout::contiguous, dtype, "seed");
        check_vector(runner_up, logits, ScalarType::Long, "runner_up");
        check_vector(clear, logits, accumulate_dtype(dtype), "clear");
        const Tensor h = laid_out(logits, Layout::contiguous);
        const std::int64_t samples = h.size(0), classes = h.size(1);
        dispatch_floating(dtype, "logits", [&](auto type) {
            using T = typename decltype(type)::type;
            backend.direction_seed(
                data<T>(h), samples, classes, temperature, mutable_data<index_t>(prediction),
                mutable_data<accumulate_t<T>>(margin), mutable_data<T>(seed),
                mutable_data<index_t>(runner_up), mutable_data<accumulate_t<T>>(clear));
        });
    }

    static std::tuple<Tensor, Tensor> fgsm_step(const Tensor& x, const Tensor& grad,
                                                const Tensor& step, const OptionalTensor& bounds,
                                                const OptionalTensor& scale) {
        const Layout layout = layout_of(x);
        Tensor perturbed = empty_like(x, layout, x.scalar_type());
        Tensor direction = empty_like(x, layout, ScalarType::Char);
        fgsm_step_out(x, grad, step, bounds, scale, perturbed, direction);
        return {perturbed, direction};
    }
    static void fgsm_step_out(const Tensor& x, const Tensor& grad, const Tensor& step,
                              const OptionalTensor& bounds, const OptionalTensor& scale,
                              const Tensor& perturbed, const Tensor& direction) {
        const Backend backend(x);
        const Batch batch(x, bounds, scale);
        const ScalarType dtype = x.scalar_type();
        check_same_kind(x, grad, "grad");
        check_per_sample(x, step, "step");
        prepare_result(perturbed, x, batch.layout, dtype, "perturbed");
        prepare_result(direction, x, batch.layout, ScalarType::Char, "direction");
        const Tensor slope = laid_out(grad, batch.layout);
        dispatch_floating(dtype, "x", [&](auto type) {
            using T = typename decltype(type)::type;
            using A = accumulate_t<T>;
            backend.fgsm_step(data<T>(batch.x), data<T>(slope), data<A>(step),
                              batch.parameters<A>(), batch.samples, batch.elements,
                              mutable_data<T>(perturbed), mutable_data<std::int8_t>(direction));
        });
    }

    static Tensor perturb(const Tensor& x, const Tensor& direction, const Tensor& step,
                          const OptionalTensor& bounds, const OptionalTensor& scale) {
        Tensor perturbed = empty_like(x, layout_of(x), x.scalar_type());
        perturb_out(x, direction, step, bounds, scale, perturbed);
        return perturbed;
    }
    static void perturb_out(const Tensor& x, const Tensor& direction, const Tensor& step,
                            const OptionalTensor& bounds, const OptionalTensor& scale,
                            const Tensor& perturbed) {
        const Backend backend(x);
        const Batch batch(x, bounds, scale);
        const ScalarType dtype = x.scalar_type();
        check_device(x, direction, "direction");
        STD_TORCH_CHECK(direction.scalar_type() == ScalarType::Char && same_shape(x, direction),
                        "direction must be int8 of the shape of x");
        check_per_sample(x, step, "step");
        prepare_result(perturbed, x, batch.layout, dtype, "out");
        const Tensor sign = laid_out(direction, batch.layout);
        dispatch_floating(dtype, "x", [&](auto type) {
            using T = typename decltype(type)::type;
            using A = accumulate_t<T>;
            backend.perturb(data<T>(batch.x), data<std::int8_t>(sign), data<A>(step),
                            batch.parameters<A>(), batch.samples, batch.elements,
                            mutable_data<T>(perturbed));
        });
    }

    static std::tuple<Tensor, Tensor> linear_radius(const Tensor& h0, const Tensor& h1,
                                                    const Tensor& prediction, double alpha,
                                                    const OptionalTensor& unit) {
        Tensor radius = empty_vector(h0.size(0), accumulate_dtype(h0.scalar_type()), h0);
        Tensor rival = empty_vector(h0.size(0), ScalarType::Long, h0);
        linear_radius_out(h0, h1, prediction, alpha, unit, radius, rival);
        return {radius, rival};
    }
    static void linear_radius_out(const Tensor& h0, const Tensor& h1, const Tensor& prediction,
                                  double alpha, const OptionalTensor& unit, const Tensor& radius,
                                  const Tensor& rival) {
        const Backend backend(h0);
        check_rows(h0, prediction, "prediction");
        const ScalarType dtype = h0.scalar_type();
        check_same_kind(h0, h1, "h1");
        if (unit) {
            check_per_sample(h0, *unit, "unit");
        }
        check_vector(radius, h0, accumulate_dtype(dtype), "radius");
        check_vector(rival, h0, ScalarType::Long, "rival");
        const Tensor clean = laid_out(h0, Layout::contiguous);
        const Tensor moved = laid_out(h1, Layout::contiguous);
        const Tensor top = laid_out(prediction, Layout::contiguous);
        const std::int64_t samples = clean.size(0), classes = clean.size(1);
        dispatch_floating(dtype, "h0", [&](auto type) {
            using T = typename decltype(type)::type;
            backend.linear_radius(data<T>(clean), data<T>(moved), data<index_t>(top), samples,
                                  classes, alpha, unit ? data<accumulate_t<T>>(*unit) : nullptr,
                                  mutable_data<accumulate_t<T>>(radius),
                                  mutable_data<index_t>(rival));
        });
    }

    static void bisection_step_(const Tensor& logits, const Tensor& prediction, const Tensor& lower,
                                const Tensor& upper, const Tensor& radius,
                                const OptionalTensor& rival) {
        const Backend backend(logits);
        check_rows(logits, prediction, "prediction");
        const ScalarType dtype = logits.scalar_type();
        const Tensor h = laid_out(logits, Layout::contiguous);
        const Tensor top = laid_out(prediction, Layout::contiguous);
        const std::int64_t samples = h.size(0), classes = h.size(1);
        check_per_sample(logits, lower, "lower");
        check_per_sample(logits, upper, "upper");
        check_per_sample(logits, radius, "radius");
        index_t* seen = rival_pointer(logits, rival);
        dispatch_floating(dtype, "logits", [&](auto type) {
            using T = typename decltype(type)::type;
            using A = accumulate_t<T>;
            backend.bisection_step_(data<T>(h), data<index_t>(top), samples, classes,
                                    mutable_data<A>(lower), mutable_data<A>(upper),
                                    mutable_data<A>(radius), seen);
        });
    }

    static void search_step_(const Tensor& logits, const Tensor& prediction, const Tensor& state,
                             double nudge, const OptionalTensor& rival) {
        const Backend backend(logits);
        check_rows(logits, prediction, "prediction");
        const ScalarType dtype = logits.scalar_type();
        const Tensor h = laid_out(logits, Layout::contiguous);
        const Tensor top = laid_out(prediction, Layout::contiguous);
        const std::int64_t samples = h.size(0), classes = h.size(1);
        check_table(logits, state, 6, "state");
        index_t* seen = rival_pointer(logits, rival);
        dispatch_floating(dtype, "logits", [&](auto type) {
            using T = typename decltype(type)::type;
            backend.search_step_(data<T>(h), data<index_t>(top), samples, classes, nudge,
                                 mutable_data<accumulate_t<T>>(state), seen);
        });
    }

    static std::tuple<Tensor, Tensor> rat_perturb(const Tensor& x, const Tensor& grad,
                                                  const Tensor& logits, const Tensor& labels,
                                                  double eps_correct, double eps_wrong,
                                                  const OptionalTensor& bounds,
                                                  const OptionalTensor& scale) {
        Tensor perturbed = empty_like(x, layout_of(x), x.scalar_type());
        Tensor correct = empty_vector(x.size(0), ScalarType::Bool, x);
        rat_perturb_out(x, grad, logits, labels, eps_correct, eps_wrong, bounds, scale, perturbed,
                        correct);
        return {perturbed, correct};
    }
    static void rat_perturb_out(const Tensor& x, const Tensor& grad, const Tensor& logits,
                                const Tensor& labels, double eps_correct, double eps_wrong,
                                const OptionalTensor& bounds, const OptionalTensor& scale,
                                const Tensor& perturbed, const Tensor& correct) {
        const Backend backend(x);
        const Batch batch(x, bounds, scale);
        const ScalarType dtype = x.scalar_type();
        check_same_kind(x, grad, "grad");
        check_rows(logits, labels, "labels");
        check_device(x, logits, "logits");
        STD_TORCH_CHECK(logits.size(0) == batch.samples,
                        "logits must have a row for every sample of x");
        prepare_result(perturbed, x, batch.layout, dtype, "perturbed");
        check_vector(correct, x, ScalarType::Bool, "correct");
        const Tensor slope = laid_out(grad, batch.layout);
        const Tensor h = laid_out(logits, Layout::contiguous);
        const Tensor y = laid_out(labels, Layout::contiguous);
        const std::int64_t classes = h.size(1);
        dispatch_floating(logits.scalar_type(), "logits", [&](auto type) {
            using T = typename decltype(type)::type;
            backend.rat_correct(data<T>(h), data<index_t>(y), batch.samples, classes,
                                mutable_data<bool>(correct));
        });
        dispatch_floating(dtype, "x", [&](auto type) {
            using T = typename decltype(type)::type;
            using A = accumulate_t<T>;
            backend.rat_perturb(data<T>(batch.x), data<T>(slope), data<bool>(correct),
                                static_cast<A>(eps_correct), static_cast<A>(eps_wrong),
                                batch.parameters<A>(), batch.samples, batch.elements,
                                mutable_data<T>(perturbed));
        });
    }

    static Tensor plane_distance(const Tensor& x, const Tensor& normal, const Tensor& gap,
                                 const OptionalTensor& bounds, const OptionalTensor& scale) {
        Tensor distance = empty_vector(x.size(0), accumulate_dtype(x.scalar_type()), x);
        plane_distance_out(x, normal, gap, bounds, scale, distance);
        return distance;
    }
    static void plane_distance_out(const Tensor& x, const Tensor& normal, const Tensor& gap,
                                   const OptionalTensor& bounds, const OptionalTensor& scale,
                                   const Tensor& distance) {
        const Backend backend(x);
        const Batch batch(x, bounds, scale);
        const ScalarType dtype = x.scalar_type();
        check_same_kind(x, normal, "normal");
        check_per_sample(x, gap, "gap");
        check_vector(distance, x, accumulate_dtype(dtype), "out");
        const Tensor slope = laid_out(normal, batch.layout);
        dispatch_floating(dtype, "x", [&](auto type) {
            using T = typename decltype(type)::type;
            using A = accumulate_t<T>;
            backend.plane_distance(data<T>(batch.x), data<T>(slope), data<A>(gap),
                                   batch.parameters<A>(), batch.samples, batch.elements,
                                   mutable_data<A>(distance));
        });
    }

    static std::tuple<Tensor, Tensor> plane_seed(const Tensor& logits, const Tensor& prediction,
                                                 const Tensor& target) {
        const ScalarType dtype = logits.scalar_type();
        Tensor seed = empty_like(logits, Layout::contiguous, dtype);
        Tensor gap = empty_vector(logits.size(0), accumulate_dtype(dtype), logits);
        plane_seed_out(logits, prediction, target, seed, gap);
        return {seed, gap};
    }
    static void plane_seed_out(const Tensor& logits, const Tensor& prediction, const Tensor& target,
                               const Tensor& seed, const Tensor& gap) {
        const Backend backend(logits);
        check_rows(logits, prediction, "prediction");
        check_rows(logits, target, "target");
        const ScalarType dtype = logits.scalar_type();
        prepare_result(seed, logits, Layout::contiguous, dtype, "seed");
        check_vector(gap, logits, accumulate_dtype(dtype), "gap");
        const Tensor h = laid_out(logits, Layout::contiguous);
        const Tensor y = laid_out(prediction, Layout::contiguous);
        const Tensor k = laid_out(target, Layout::contiguous);
        const std::int64_t samples = h.size(0), classes = h.size(1);
        dispatch_floating(dtype, "logits", [&](auto type) {
            using T = typename decltype(type)::type;
            backend.plane_seed(data<T>(h), data<index_t>(y), data<index_t>(k), samples, classes,
                               mutable_data<T>(seed), mutable_data<accumulate_t<T>>(gap));
        });
    }

    static std::tuple<Tensor, Tensor> loss_seed(const Tensor& logits, const OptionalTensor& labels,
                                                const OptionalTensor& targets, std::int64_t kind) {
        const ScalarType dtype = logits.scalar_type();
        Tensor loss = empty_vector(logits.size(0), accumulate_dtype(dtype), logits);
        Tensor seed = empty_like(logits, Layout::contiguous, dtype);
        loss_seed_out(logits, labels, targets, kind, loss, seed);
        return {loss, seed};
    }
    static void loss_seed_out(const Tensor& logits, const OptionalTensor& labels,
                              const OptionalTensor& targets, std::int64_t kind, const Tensor& loss,
                              const Tensor& seed) {
        const Backend backend(logits);
        check_logits(logits);
        STD_TORCH_CHECK(kind >= 0 && kind < kAttackLosses, "kind must be from 0 to ",
                        kAttackLosses - 1, ", got ", kind);
        const auto of = static_cast<AttackLoss>(kind);
        STD_TORCH_CHECK(logits.size(1) >= least_classes(of), "logits must have ", least_classes(of),
                        " classes at least for this loss");
        STD_TORCH_CHECK(labels || of == AttackLoss::confidence, "labels must be given");
        STD_TORCH_CHECK(targets.has_value() == (of == AttackLoss::dlr_targeted),
                        "targets must be given for the targeted loss, and for no other");
        const auto classes_of = [&](const OptionalTensor& given, const char* name) {
            OptionalTensor found;
            if (given) {
                check_rows(logits, *given, name);
                found = laid_out(*given, Layout::contiguous);
            }
            return found;
        };
        const OptionalTensor y = classes_of(labels, "labels"), t = classes_of(targets, "targets");
        const ScalarType dtype = logits.scalar_type();
        check_vector(loss, logits, accumulate_dtype(dtype), "loss");
        prepare_result(seed, logits, Layout::contiguous, dtype, "seed");
        const Tensor h = laid_out(logits, Layout::contiguous);
        const std::int64_t samples = h.size(0), classes = h.size(1);
        dispatch_floating(dtype, "logits", [&](auto type) {
            using T = typename decltype(type)::type;
            backend.loss_seed(data<T>(h), y ? data<index_t>(*y) : nullptr,
                              t ? data<index_t>(*t) : nullptr, samples, classes, of,
                              mutable_data<accumulate_t<T>>(loss), mutable_data<T>(seed));
        });
    }

    static std::tuple<Tensor, Tensor> probe_step(const Tensor& x, const Tensor& normal,
                                                 const Tensor& gap, double finest, double longest,
                                                 const OptionalTensor& bounds,
                                                 const OptionalTensor& scale) {
        const ScalarType dtype = accumulate_dtype(x.scalar_type());
        Tensor step = empty_vector(x.size(0), dtype, x);
        Tensor largest = empty_vector(x.size(0), dtype, x);
        probe_step_out(x, normal, gap, finest, longest, bounds, scale, step, largest);
        return {step, largest};
    }
    static void probe_step_out(const Tensor& x, const Tensor& normal, const Tensor& gap,
                               double finest, double longest, const OptionalTensor& bounds,
                               const OptionalTensor& scale, const Tensor& step,
                               const Tensor& largest) {
        const Backend backend(x);
        const Batch batch(x, bounds, scale);
        const ScalarType dtype = x.scalar_type();
        check_same_kind(x, normal, "normal");
        check_per_sample(x, gap, "gap");
        check_vector(step, x, accumulate_dtype(dtype), "step");
        check_vector(largest, x, accumulate_dtype(dtype), "largest");
        const Tensor slope = laid_out(normal, batch.layout);
        dispatch_floating(dtype, "x", [&](auto type) {
            using T = typename decltype(type)::type;
            using A = accumulate_t<T>;
            backend.probe_step(data<T>(batch.x), data<T>(slope), data<A>(gap),
                               batch.parameters<A>(), batch.samples, batch.elements,
                               static_cast<A>(finest), static_cast<A>(longest),
                               mutable_data<A>(step), mutable_data<A>(largest));
        });
    }

    static void redirect_(const Tensor& x, const Tensor& normal, const Tensor& gap,
                          const Tensor& state, const Tensor& rival, const Tensor& step,
                          const Tensor& aim, const Tensor& z, const Tensor& direction,
                          const Tensor& nearest, const Tensor& nearest_direction,
                          const Tensor& flipped_to, const OptionalTensor& bounds,
                          const OptionalTensor& scale) {
        const Backend backend(x);
        const Batch batch(x, bounds, scale);
        const ScalarType dtype = x.scalar_type();
        check_same_kind(x, normal, "normal");
        check_per_sample(x, gap, "gap");
        check_table(x, state, 6, "state");
        check_vector(rival, x, ScalarType::Long, "rival");
        check_per_sample(x, step, "step");
        prepare_result(aim, x, batch.layout, accumulate_dtype(dtype), "aim");
        prepare_result(z, x, batch.layout, dtype, "z");
        prepare_result(direction, x, batch.layout, ScalarType::Char, "direction");
        check_table(x, nearest, 8, "nearest");
        prepare_result(nearest_direction, x, batch.layout, ScalarType::Char, "nearest_direction");
        check_vector(flipped_to, x, ScalarType::Long, "flipped_to");
        const Tensor slope = laid_out(normal, batch.layout);
        dispatch_floating(dtype, "x", [&](auto type) {
            using T = typename decltype(type)::type;
            using A = accumulate_t<T>;
            backend.redirect_(
                data<T>(batch.x), data<T>(slope), data<A>(gap), data<A>(state),
                data<index_t>(rival), batch.parameters<A>(), batch.samples, batch.elements,
                mutable_data<A>(step), mutable_data<A>(aim), mutable_data<T>(z),
                mutable_data<std::int8_t>(direction), mutable_data<A>(nearest),
                mutable_data<std::int8_t>(nearest_direction), mutable_data<index_t>(flipped_to));
        });
    }

    static std::tuple<Tensor, Tensor, Tensor, Tensor> probability_margin(const Tensor& logits,
                                                                         const Tensor& labels) {
        const ScalarType dtype = accumulate_dtype(logits.scalar_type());
        const auto vector = [&] { return empty_vector(logits.size(0), dtype, logits); };
        Tensor margin = vector(), top2_ratio = vector(), similarity = vector(), entropy = vector();
        probability_margin_out(logits, labels, margin, top2_ratio, similarity, entropy);
        return {margin, top2_ratio, similarity, entropy};
    }
    static void probability_margin_out(const Tensor& logits, const Tensor& labels,
                                       const Tensor& margin, const Tensor& top2_ratio,
                                       const Tensor& similarity, const Tensor& entropy) {
        const Backend backend(logits);
        check_rows(logits, labels, "labels");
        const ScalarType dtype = logits.scalar_type();
        const Tensor h = laid_out(logits, Layout::contiguous);
        const Tensor y = laid_out(labels, Layout::contiguous);
        const std::int64_t samples = h.size(0), classes = h.size(1);
        check_vector(margin, logits, accumulate_dtype(dtype), "margin");
        check_vector(top2_ratio, logits, accumulate_dtype(dtype), "top2_ratio");
        check_vector(similarity, logits, accumulate_dtype(dtype), "similarity");
        check_vector(entropy, logits, accumulate_dtype(dtype), "entropy");
        dispatch_floating(dtype, "logits", [&](auto type) {
            using T = typename decltype(type)::type;
            using A = accumulate_t<T>;
            backend.probability_margin(data<T>(h), data<index_t>(y), samples, classes,
                                       mutable_data<A>(margin), mutable_data<A>(top2_ratio),
                                       mutable_data<A>(similarity), mutable_data<A>(entropy));
        });
    }

    static void register_all(torch::stable::detail::StableLibrary& library) {
        library.impl("direction_seed", TORCH_BOX(&Ops::direction_seed));
        library.impl("direction_seed.out", TORCH_BOX(&Ops::direction_seed_out));
        library.impl("fgsm_step", TORCH_BOX(&Ops::fgsm_step));
        library.impl("fgsm_step.out", TORCH_BOX(&Ops::fgsm_step_out));
        library.impl("perturb", TORCH_BOX(&Ops::perturb));
        library.impl("perturb.out", TORCH_BOX(&Ops::perturb_out));
        library.impl("linear_radius", TORCH_BOX(&Ops::linear_radius));
        library.impl("linear_radius.out", TORCH_BOX(&Ops::linear_radius_out));
        library.impl("bisection_step_", TORCH_BOX(&Ops::bisection_step_));
        library.impl("rat_perturb", TORCH_BOX(&Ops::rat_perturb));
        library.impl("rat_perturb.out", TORCH_BOX(&Ops::rat_perturb_out));
        library.impl("plane_distance", TORCH_BOX(&Ops::plane_distance));
        library.impl("plane_distance.out", TORCH_BOX(&Ops::plane_distance_out));
        library.impl("plane_seed", TORCH_BOX(&Ops::plane_seed));
        library.impl("plane_seed.out", TORCH_BOX(&Ops::plane_seed_out));
        library.impl("loss_seed", TORCH_BOX(&Ops::loss_seed));
        library.impl("loss_seed.out", TORCH_BOX(&Ops::loss_seed_out));
        library.impl("probe_step", TORCH_BOX(&Ops::probe_step));
        library.impl("probe_step.out", TORCH_BOX(&Ops::probe_step_out));
        library.impl("redirect_", TORCH_BOX(&Ops::redirect_));
        library.impl("search_step_", TORCH_BOX(&Ops::search_step_));
        library.impl("probability_margin", TORCH_BOX(&Ops::probability_margin));
        library.impl("probability_margin.out", TORCH_BOX(&Ops::probability_margin_out));
    }
};

}  // namespace rrfast
