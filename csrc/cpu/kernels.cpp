// All CPU kernels for one instruction set. The build compiles this file once per set, with
// RRFAST_ISA naming it.
#include "kernels.h"

#include "bisection_step.h"
#include "direction_seed.h"
#include "fgsm_step.h"
#include "linear_radius.h"
#include "loss_seed.h"
#include "perturb.h"
#include "plane_distance.h"
#include "plane_seed.h"
#include "probability_margin.h"
#include "probe_step.h"
#include "rat_perturb.h"
#include "redirect.h"
#include "search_step.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
const Kernels<T>& kernels() {
    static const Kernels<T> table{
        direction_seed<T>, linear_radius<T>, bisection_step_<T>, rat_correct<T>,       fgsm_step<T>,
        perturb<T>,        rat_perturb<T>,   plane_distance<T>,  probe_step<T>,        redirect_<T>,
        search_step_<T>,   plane_seed<T>,    loss_seed<T>,       probability_margin<T>};
    return table;
}

#define INSTANTIATE(T) template const Kernels<T>& kernels<T>();
RR_FOR_EACH_TYPE(INSTANTIATE)

}  // namespace rrfast::cpu::RRFAST_ISA
