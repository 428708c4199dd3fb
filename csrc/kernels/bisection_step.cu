// bisection_step_: one step of the bracketing search for all samples: it checks whether the
// prediction flipped, and updates the bracket, the next radius (RR-BS, RAT Algorithm 1, errata 5)
// and the class beyond the boundary. Reads B*K logits and three numbers per sample; the host waits
// for nothing.
#include "../math/bisection_step.h"
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width, bool Ragged>
__global__ void __launch_bounds__(kRowThreads, 2)
    bisection_step_kernel(const T* __restrict__ logits, const index_t* __restrict__ prediction,
                          index_t samples, index_t classes, accumulate_t<T>* __restrict__ lower,
                          accumulate_t<T>* __restrict__ upper, accumulate_t<T>* __restrict__ radius,
                          index_t* __restrict__ rival) {
    using A = accumulate_t<T>;
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        // Loaded now, so that they are in flight together with the row.
        const Bracket<A> bracket{lower[sample], upper[sample], radius[sample]};
        const index_t y = prediction[sample];
        const T* row = logits + sample * classes;
        const auto best = row_argmax(row, Span<Width, Ragged>(row, count));
        if (writes && threadIdx.x == 0) {
            const Bracket<A> next =
                bisection_step(bracket, best.index != y, is_undefined(best.value));
            if (rival && shows_rival(bracket, next)) {
                rival[sample] = best.index;
            }
            lower[sample] = next.lower;
            upper[sample] = next.upper;
            radius[sample] = next.radius;
        }
    });
}

}  // namespace

template <class T>
cudaError_t bisection_step_(const T* logits, const index_t* prediction, index_t samples,
                            index_t classes, accumulate_t<T>* lower, accumulate_t<T>* upper,
                            accumulate_t<T>* radius, index_t* rival, cudaStream_t stream) {
    return for_access<kVectorWidth<T>>(classes, {logits}, nullptr, [&](auto access) {
        return launch(bisection_step_kernel<T, access.width, access.ragged>,
                      row_grid(samples, classes, access.width), stream, logits, prediction, samples,
                      classes, lower, upper, radius, rival);
    });
}

#define INSTANTIATE(T)                                                                            \
    template cudaError_t bisection_step_<T>(const T*, const index_t*, index_t, index_t,           \
                                            accumulate_t<T>*, accumulate_t<T>*, accumulate_t<T>*, \
                                            index_t*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList bisection_step_kernels() {
    return access_instances("bisection_step_kernel", [](auto type, auto access) {
        return reinterpret_cast<const void*>(
            bisection_step_kernel<typename decltype(type)::type, access.width, access.ragged>);
    });
}

}  // namespace rrfast::cuda
