// The ops on the CPU: ranges of the batch, spread over torch's threads.
#include "../cpu/kernels.h"
#include "ops.h"

namespace rrfast {
namespace {

// Elements that are worth a thread of their own, as in torch's own elementwise kernels.
constexpr index_t kGrain = 32768;

// Bytes of a result from which on it is streamed past the caches. It takes a quarter less time, and
// a model that reads the result next takes as long as before or less: with the inputs and with what
// the model makes of it, little of a larger result would still be in the cache. Of half as many
// bytes it would read them from memory instead (benchmarks/streaming.md).
constexpr index_t kStreamedBytes = index_t(8) << 20;

struct Cpu {
    explicit Cpu(const Tensor&) {}

    template <class Body>
    static void over_rows(index_t samples, index_t classes, const Body& body) {
        const index_t grain = kGrain / (classes > 0 ? classes : 1);
        torch::stable::parallel_for(0, samples, grain > 0 ? grain : 1, body);
    }
    template <class Body>
    static void over_elements(index_t samples, index_t elements, const Body& body) {
        torch::stable::parallel_for(0, samples * elements, kGrain, body);
    }
    template <class T>
    static bool streams(index_t samples, index_t elements) {
        return samples * elements >= kStreamedBytes / index_t(sizeof(T));
    }

    template <class T>
    void direction_seed(const T* logits, index_t samples, index_t classes, double temperature,
                        index_t* prediction, accumulate_t<T>* margin, T* seed, index_t* runner_up,
                        accumulate_t<T>* clear) const {
        over_rows(samples, classes, [&](index_t begin, index_t end) {
            cpu::kernels<T>().direction_seed(logits, begin, end, classes, temperature, prediction,
                                             margin, seed, runner_up, clear);
        });
    }

    template <class T, class A>
    void fgsm_step(const T* x, const T* grad, const A* step, const Channels<A>& channels,
                   index_t samples, index_t elements, T* perturbed, std::int8_t* direction) const {
        over_elements(samples, elements, [&](index_t begin, index_t end) {
            cpu::kernels<T>().fgsm_step(x, grad, step, channels, begin, end, elements,
                                        streams<T>(samples, elements), perturbed, direction);
        });
    }

    template <class T, class A>
    void perturb(const T* x, const std::int8_t* direction, const A* step,
                 const Channels<A>& channels, index_t samples, index_t elements,
                 T* perturbed) const {
        over_elements(samples, elements, [&](index_t begin, index_t end) {
            cpu::kernels<T>().perturb(x, direction, step, channels, begin, end, elements,
                                      streams<T>(samples, elements), perturbed);
        });
    }

    template <class T, class A>
    void linear_radius(const T* h0, const T* h1, const index_t* prediction, index_t samples,
                       index_t classes, double alpha, const A* unit, A* radius,
                       index_t* rival) const {
        over_rows(samples, classes, [&](index_t begin, index_t end) {
            cpu::kernels<T>().linear_radius(h0, h1, prediction, begin, end, classes, alpha, unit,
                                            radius, rival);
        });
    }

    template <class T, class A>
    void bisection_step_(const T* logits, const index_t* prediction, index_t samples,
                         index_t classes, A* lower, A* upper, A* radius, index_t* rival) const {
        over_rows(samples, classes, [&](index_t begin, index_t end) {
            cpu::kernels<T>().bisection_step_(logits, prediction, begin, end, classes, lower, upper,
                                              radius, rival);
        });
    }

    template <class T, class A>
    void search_step_(const T* logits, const index_t* prediction, index_t samples, index_t classes,
                      double nudge, A* state, index_t* rival) const {
        over_rows(samples, classes, [&](index_t begin, index_t end) {
            cpu::kernels<T>().search_step_(logits, prediction, begin, end, samples, classes,
                                           static_cast<A>(nudge), state, rival);
        });
    }

    template <class T>
    void rat_correct(const T* logits, const index_t* labels, index_t samples, index_t classes,
                     bool* correct) const {
        over_rows(samples, classes, [&](index_t begin, index_t end) {
            cpu::kernels<T>().rat_correct(logits, labels, begin, end, classes, correct);
        });
    }

    template <class T, class A>
    void rat_perturb(const T* x, const T* grad, const bool* correct, A eps_correct, A eps_wrong,
                     const Channels<A>& channels, index_t samples, index_t elements,
                     T* perturbed) const {
        over_elements(samples, elements, [&](index_t begin, index_t end) {
            cpu::kernels<T>().rat_perturb(x, grad, correct, eps_correct, eps_wrong, channels, begin,
                                          end, elements, streams<T>(samples, elements), perturbed);
        });
    }

    template <class T, class A>
    void plane_distance(const T* x, const T* normal, const A* gap, const Channels<A>& channels,
                        index_t samples, index_t elements, A* distance) const {
        over_rows(samples, elements, [&](index_t begin, index_t end) {
            cpu::kernels<T>().plane_distance(x, normal, gap, channels, begin, end, elements,
                                             distance);
        });
    }

    template <class T, class A>
    void plane_seed(const T* logits, const index_t* prediction, const index_t* target,
                    index_t samples, index_t classes, T* seed, A* gap) const {
        over_rows(samples, classes, [&](index_t begin, index_t end) {
            cpu::kernels<T>().plane_seed(logits, prediction, target, begin, end, classes, seed,
                                         gap);
        });
    }

    template <class T, class A>
    void loss_seed(const T* logits, const index_t* labels, const index_t* targets, index_t samples,
                   index_t classes, AttackLoss kind, A* loss, T* seed) const {
        over_rows(samples, classes, [&](index_t begin, index_t end) {
            cpu::kernels<T>().loss_seed(logits, labels, targets, begin, end, classes, kind, loss,
                                        seed);
        });
    }

    template <class T, class A>
    void probe_step(const T* x, const T* normal, const A* gap, const Channels<A>& channels,
                    index_t samples, index_t elements, A finest, A longest, A* step,
                    A* largest) const {
        over_rows(samples, elements, [&](index_t begin, index_t end) {
            cpu::kernels<T>().probe_step(x, normal, gap, channels, begin, end, elements, finest,
                                         longest, step, largest);
        });
    }

    template <class T, class A>
    void redirect_(const T* x, const T* normal, const A* gap, const A* state, const index_t* rival,
                   const Channels<A>& channels, index_t samples, index_t elements, A* step, A* aim,
                   T* z, std::int8_t* direction, A* nearest, std::int8_t* nearest_direction,
                   index_t* flipped_to) const {
        over_rows(samples, elements, [&](index_t begin, index_t end) {
            cpu::kernels<T>().redirect_(x, normal, gap, state, rival, channels, begin, end, samples,
                                        elements, streams<T>(samples, elements), step, aim, z,
                                        direction, nearest, nearest_direction, flipped_to);
        });
    }

    template <class T, class A>
    void probability_margin(const T* logits, const index_t* labels, index_t samples,
                            index_t classes, A* margin, A* top2_ratio, A* similarity,
                            A* entropy) const {
        over_rows(samples, classes, [&](index_t begin, index_t end) {
            cpu::kernels<T>().probability_margin(logits, labels, begin, end, classes, margin,
                                                 top2_ratio, similarity, entropy);
        });
    }
};

}  // namespace
}  // namespace rrfast

STABLE_TORCH_LIBRARY_IMPL(rrfast, CPU, library) { rrfast::Ops<rrfast::Cpu>::register_all(library); }
