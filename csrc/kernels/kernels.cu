// The list of all kernels, from the lists of the ops.
#include "launch.h"

namespace rrfast::cuda {

KernelList kernels() {
    KernelList all;
    for (const auto& list :
         {direction_seed_kernels(), fgsm_step_kernels(), perturb_kernels(), linear_radius_kernels(),
          bisection_step_kernels(), rat_perturb_kernels(), plane_distance_kernels(),
          plane_seed_kernels(), loss_seed_kernels(), probe_step_kernels(), redirect_kernels(),
          search_step_kernels(), probability_margin_kernels()}) {
        all.insert(all.end(), list.begin(), list.end());
    }
    return all;
}

}  // namespace rrfast::cuda
