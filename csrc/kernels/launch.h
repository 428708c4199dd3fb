// The interface of the CUDA kernels: one launcher per op over raw device pointers. B samples, K
// classes, N elements per sample. A launcher enqueues on `stream` without allocating or
// synchronizing, and returns the launch's status.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <vector>

#include "../math/loss_seed.h"
#include "../math/steps.h"

namespace rrfast::cuda {

template <class T>
cudaError_t direction_seed(const T* logits,  // [B, K]
                           index_t samples, index_t classes, double temperature,
                           index_t* prediction,      // [B]
                           accumulate_t<T>* margin,  // [B]
                           T* seed,                  // [B, K]
                           index_t* runner_up,       // [B]
                           accumulate_t<T>* clear,   // [B]
                           cudaStream_t stream);

template <class T>
cudaError_t fgsm_step(const T* x,                   // [B, N]
                      const T* grad,                // [B, N]
                      const accumulate_t<T>* step,  // [B]
                      const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                      T* perturbed,            // [B, N]
                      std::int8_t* direction,  // [B, N]
                      cudaStream_t stream);

template <class T>
cudaError_t perturb(const T* x,                    // [B, N]
                    const std::int8_t* direction,  // [B, N]
                    const accumulate_t<T>* step,   // [B]
                    const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                    T* perturbed,  // [B, N]
                    cudaStream_t stream);

template <class T>
cudaError_t linear_radius(const T* h0,                // [B, K]
                          const T* h1,                // [B, K]
                          const index_t* prediction,  // [B]
                          index_t samples, index_t classes, double alpha,
                          const accumulate_t<T>* unit,  // [B], or null for 1
                          accumulate_t<T>* radius,      // [B]
                          index_t* rival,               // [B]
                          cudaStream_t stream);

template <class T>
cudaError_t plane_distance(const T* x,                  // [B, N], read only with bounds
                           const T* normal,             // [B, N]
                           const accumulate_t<T>* gap,  // [B]
                           const Channels<accumulate_t<T>>& channels, index_t samples,
                           index_t elements,
                           accumulate_t<T>* distance,  // [B]
                           cudaStream_t stream);

template <class T>
cudaError_t plane_seed(const T* logits,            // [B, K]
                       const index_t* prediction,  // [B]
                       const index_t* target,      // [B]
                       index_t samples, index_t classes,
                       T* seed,               // [B, K]
                       accumulate_t<T>* gap,  // [B]
                       cudaStream_t stream);

template <class T>
cudaError_t loss_seed(const T* logits,         // [B, K]
                      const index_t* labels,   // [B], or null: the confidence needs none
                      const index_t* targets,  // [B], or null: only `dlr_targeted` has them
                      index_t samples, index_t classes, AttackLoss kind,
                      accumulate_t<T>* loss,  // [B]
                      T* seed,                // [B, K]
                      cudaStream_t stream);

template <class T>
cudaError_t probe_step(const T* x,                  // [B, N]
                       const T* normal,             // [B, N]
                       const accumulate_t<T>* gap,  // [B]
                       const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                       accumulate_t<T> finest, accumulate_t<T> longest,
                       accumulate_t<T>* step,     // [B]
                       accumulate_t<T>* largest,  // [B]
                       cudaStream_t stream);

template <class T>
cudaError_t redirect_(const T* x,                    // [B, N]
                      const T* normal,               // [B, N]
                      const accumulate_t<T>* gap,    // [B]
                      const accumulate_t<T>* state,  // [6, B]
                      const index_t* rival,          // [B]
                      const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                      accumulate_t<T>* step,           // [B]
                      accumulate_t<T>* aim,            // [B, N]
                      T* z,                            // [B, N]
                      std::int8_t* direction,          // [B, N]
                      accumulate_t<T>* nearest,        // [8, B]
                      std::int8_t* nearest_direction,  // [B, N]
                      index_t* flipped_to,             // [B]
                      cudaStream_t stream);

template <class T>
cudaError_t bisection_step_(const T* logits,            // [B, K]
                            const index_t* prediction,  // [B]
                            index_t samples, index_t classes,
                            accumulate_t<T>* lower,   // [B]
                            accumulate_t<T>* upper,   // [B]
                            accumulate_t<T>* radius,  // [B]
                            index_t* rival,           // [B], or null: not asked for
                            cudaStream_t stream);

template <class T>
cudaError_t search_step_(const T* logits,            // [B, K]
                         const index_t* prediction,  // [B]
                         index_t samples, index_t classes, double nudge,
                         accumulate_t<T>* state,  // [6, B]
                         index_t* rival,          // [B], or null: not asked for
                         cudaStream_t stream);

template <class T>
cudaError_t probability_margin(const T* logits,        // [B, K]
                               const index_t* labels,  // [B]
                               index_t samples, index_t classes,
                               accumulate_t<T>* margin,      // [B]
                               accumulate_t<T>* top2_ratio,  // [B]
                               accumulate_t<T>* similarity,  // [B]
                               accumulate_t<T>* entropy,     // [B]
                               cudaStream_t stream);

// rat_perturb is two launches, because logits and inputs may differ in type (autocast).
template <class T>
cudaError_t rat_correct(const T* logits,        // [B, K]
                        const index_t* labels,  // [B]
                        index_t samples, index_t classes,
                        bool* correct,  // [B]
                        cudaStream_t stream);

template <class T>
cudaError_t rat_perturb(const T* x,           // [B, N]
                        const T* grad,        // [B, N]
                        const bool* correct,  // [B]
                        accumulate_t<T> eps_correct, accumulate_t<T> eps_wrong,
                        const Channels<accumulate_t<T>>& channels, index_t samples,
                        index_t elements,
                        T* perturbed,  // [B, N]
                        cudaStream_t stream);

// Every kernel of the library, for its resource report.
struct KernelInfo {
    std::string name;
    const void* function;
};
using KernelList = std::vector<KernelInfo>;
KernelList direction_seed_kernels();
KernelList fgsm_step_kernels();
KernelList perturb_kernels();
KernelList linear_radius_kernels();
KernelList plane_distance_kernels();
KernelList plane_seed_kernels();
KernelList loss_seed_kernels();
KernelList probe_step_kernels();
KernelList redirect_kernels();
KernelList search_step_kernels();
KernelList probability_margin_kernels();
KernelList bisection_step_kernels();
KernelList rat_perturb_kernels();
KernelList kernels();  // all of the above

}  // namespace rrfast::cuda
