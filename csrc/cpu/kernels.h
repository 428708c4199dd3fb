// The interface of the CPU kernels: one function per op over raw pointers and a range of the batch,
// so that the caller decides how to divide the ranges among threads. K classes, N elements per
// sample. The arguments are those of csrc/kernels/launch.h.
#pragma once

#include "../math/loss_seed.h"
#include "../math/steps.h"

namespace rrfast::cpu {

template <class T>
struct Kernels {
    using A = accumulate_t<T>;

    // Rows [begin, end) of [B, K].
    void (*direction_seed)(const T* logits, index_t begin, index_t end, index_t classes,
                           double temperature, index_t* prediction, A* margin, T* seed,
                           index_t* runner_up, A* clear);
    void (*linear_radius)(const T* h0, const T* h1, const index_t* prediction, index_t begin,
                          index_t end, index_t classes, double alpha, const A* unit, A* radius,
                          index_t* rival);
    void (*bisection_step_)(const T* logits, const index_t* prediction, index_t begin, index_t end,
                            index_t classes, A* lower, A* upper, A* radius, index_t* rival);
    void (*rat_correct)(const T* logits, const index_t* labels, index_t begin, index_t end,
                        index_t classes, bool* correct);

    // Elements [begin, end) of [B, N], counted over the whole batch; with `streams` the results go
    // past the caches.
    void (*fgsm_step)(const T* x, const T* grad, const A* step, const Channels<A>& channels,
                      index_t begin, index_t end, index_t elements, bool streams, T* perturbed,
                      std::int8_t* direction);
    void (*perturb)(const T* x, const std::int8_t* direction, const A* step,
                    const Channels<A>& channels, index_t begin, index_t end, index_t elements,
                    bool streams, T* perturbed);
    void (*rat_perturb)(const T* x, const T* grad, const bool* correct, A eps_correct, A eps_wrong,
                        const Channels<A>& channels, index_t begin, index_t end, index_t elements,
                        bool streams, T* perturbed);

    // Samples [begin, end) of [B, N].
    void (*plane_distance)(const T* x, const T* normal, const A* gap, const Channels<A>& channels,
                           index_t begin, index_t end, index_t elements, A* distance);
    void (*probe_step)(const T* x, const T* normal, const A* gap, const Channels<A>& channels,
                       index_t begin, index_t end, index_t elements, A finest, A longest, A* step,
                       A* largest);
    // The state is [6, B], nearest is [8, B].
    void (*redirect_)(const T* x, const T* normal, const A* gap, const A* state,
                      const index_t* rival, const Channels<A>& channels, index_t begin, index_t end,
                      index_t samples, index_t elements, bool streams, A* step, A* aim, T* z,
                      std::int8_t* direction, A* nearest, std::int8_t* nearest_direction,
                      index_t* flipped_to);

    // Rows [begin, end) of [B, K]; the state is [6, B].
    void (*search_step_)(const T* logits, const index_t* prediction, index_t begin, index_t end,
                         index_t samples, index_t classes, A nudge, A* state, index_t* rival);

    // Rows [begin, end) of [B, K].
    void (*plane_seed)(const T* logits, const index_t* prediction, const index_t* target,
                       index_t begin, index_t end, index_t classes, T* seed, A* gap);
    void (*loss_seed)(const T* logits, const index_t* labels, const index_t* targets, index_t begin,
                      index_t end, index_t classes, AttackLoss kind, A* loss, T* seed);
    void (*probability_margin)(const T* logits, const index_t* labels, index_t begin, index_t end,
                               index_t classes, A* margin, A* top2_ratio, A* similarity,
                               A* entropy);
};

// The fastest kernels that this processor can run, and the name of their instruction set.
template <class T>
const Kernels<T>& kernels();
const char* instruction_set();

}  // namespace rrfast::cpu
