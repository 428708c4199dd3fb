// The ops by the launchers of csrc/kernels: the backend for CUDA, on a stream that `Stream` gives
// for a tensor, and checks the status of every launch.
#pragma once

#include "../kernels/launch.h"
#include "ops.h"

namespace rrfast {

template <class Stream>
class Launchers {
public:
    explicit Launchers(const Tensor& tensor) : stream_(tensor) {}

    template <class T>
    void direction_seed(const T* logits, index_t samples, index_t classes, double temperature,
                        index_t* prediction, accumulate_t<T>* margin, T* seed, index_t* runner_up,
                        accumulate_t<T>* clear) const {
        if (has_rows(samples, classes)) {
            check(cuda::direction_seed(logits, samples, classes, temperature, prediction, margin,
                                       seed, runner_up, clear, stream_));
        }
    }

    template <class T, class A>
    void fgsm_step(const T* x, const T* grad, const A* step, const Channels<A>& channels,
                   index_t samples, index_t elements, T* perturbed, std::int8_t* direction) const {
        if (samples * elements > 0) {
            check(cuda::fgsm_step(x, grad, step, channels, samples, elements, perturbed, direction,
                                  stream_));
        }
    }

    template <class T, class A>
    void perturb(const T* x, const std::int8_t* direction, const A* step,
                 const Channels<A>& channels, index_t samples, index_t elements,
                 T* perturbed) const {
        if (samples * elements > 0) {
            check(
                cuda::perturb(x, direction, step, channels, samples, elements, perturbed, stream_));
        }
    }

    template <class T, class A>
    void linear_radius(const T* h0, const T* h1, const index_t* prediction, index_t samples,
                       index_t classes, double alpha, const A* unit, A* radius,
                       index_t* rival) const {
        if (has_rows(samples, classes)) {
            check(cuda::linear_radius(h0, h1, prediction, samples, classes, alpha, unit, radius,
                                      rival, stream_));
        }
    }

    template <class T, class A>
    void bisection_step_(const T* logits, const index_t* prediction, index_t samples,
                         index_t classes, A* lower, A* upper, A* radius, index_t* rival) const {
        if (has_rows(samples, classes)) {
            check(cuda::bisection_step_(logits, prediction, samples, classes, lower, upper, radius,
                                        rival, stream_));
        }
    }

    template <class T, class A>
    void search_step_(const T* logits, const index_t* prediction, index_t samples, index_t classes,
                      double nudge, A* state, index_t* rival) const {
        if (has_rows(samples, classes)) {
            check(cuda::search_step_(logits, prediction, samples, classes, nudge, state, rival,
                                     stream_));
        }
    }

    template <class T>
    void rat_correct(const T* logits, const index_t* labels, index_t samples, index_t classes,
                     bool* correct) const {
        if (has_rows(samples, classes)) {
            check(cuda::rat_correct(logits, labels, samples, classes, correct, stream_));
        }
    }

    template <class T, class A>
    void rat_perturb(const T* x, const T* grad, const bool* correct, A eps_correct, A eps_wrong,
                     const Channels<A>& channels, index_t samples, index_t elements,
                     T* perturbed) const {
        if (samples * elements > 0) {
            check(cuda::rat_perturb(x, grad, correct, eps_correct, eps_wrong, channels, samples,
                                    elements, perturbed, stream_));
        }
    }

    template <class T, class A>
    void plane_distance(const T* x, const T* normal, const A* gap, const Channels<A>& channels,
                        index_t samples, index_t elements, A* distance) const {
        if (has_rows(samples, elements, "elements in a sample of x")) {
            check(cuda::plane_distance(x, normal, gap, channels, samples, elements, distance,
                                       stream_));
        }
    }

    template <class T, class A>
    void plane_seed(const T* logits, const index_t* prediction, const index_t* target,
                    index_t samples, index_t classes, T* seed, A* gap) const {
        if (has_rows(samples, classes)) {
            check(
                cuda::plane_seed(logits, prediction, target, samples, classes, seed, gap, stream_));
        }
    }

    template <class T, class A>
    void loss_seed(const T* logits, const index_t* labels, const index_t* targets, index_t samples,
                   index_t classes, AttackLoss kind, A* loss, T* seed) const {
        if (has_rows(samples, classes)) {
            check(cuda::loss_seed(logits, labels, targets, samples, classes, kind, loss, seed,
                                  stream_));
        }
    }

    template <class T, class A>
    void probe_step(const T* x, const T* normal, const A* gap, const Channels<A>& channels,
                    index_t samples, index_t elements, A finest, A longest, A* step,
                    A* largest) const {
        if (has_rows(samples, elements, "elements in a sample of x")) {
            check(cuda::probe_step(x, normal, gap, channels, samples, elements, finest, longest,
                                   step, largest, stream_));
        }
    }

    template <class T, class A>
    void redirect_(const T* x, const T* normal, const A* gap, const A* state, const index_t* rival,
                   const Channels<A>& channels, index_t samples, index_t elements, A* step, A* aim,
                   T* z, std::int8_t* direction, A* nearest, std::int8_t* nearest_direction,
                   index_t* flipped_to) const {
        if (has_rows(samples, elements, "elements in a sample of x")) {
            check(cuda::redirect_(x, normal, gap, state, rival, channels, samples, elements, step,
                                  aim, z, direction, nearest, nearest_direction, flipped_to,
                                  stream_));
        }
    }

    template <class T, class A>
    void probability_margin(const T* logits, const index_t* labels, index_t samples,
                            index_t classes, A* margin, A* top2_ratio, A* similarity,
                            A* entropy) const {
        if (has_rows(samples, classes)) {
            check(cuda::probability_margin(logits, labels, samples, classes, margin, top2_ratio,
                                           similarity, entropy, stream_));
        }
    }

private:
    // The kernels count within a row in 32 bits, and may go a step beyond its end.
    static bool has_rows(index_t samples, index_t classes, const char* what = "classes in logits") {
        STD_TORCH_CHECK(classes < index_t(1) << 31, "there must be fewer than 2^31 ", what,
                        " on CUDA, got ", classes);
        return samples > 0;
    }
    static void check(cudaError_t status) {
        STD_TORCH_CHECK(status == cudaSuccess,
                        "CUDA kernel launch failed: ", cudaGetErrorString(status));
    }

    Stream stream_;
};

}  // namespace rrfast
