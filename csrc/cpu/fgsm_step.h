// fgsm_step on the CPU: see csrc/kernels/fgsm_step.cu.
#pragma once

#include "steps.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void fgsm_step(const T* __restrict__ x, const T* __restrict__ grad,
               const accumulate_t<T>* __restrict__ step, const Channels<accumulate_t<T>>& channels,
               index_t begin, index_t end, index_t elements, T* __restrict__ perturbed,
               std::int8_t* __restrict__ direction) {
    using A = accumulate_t<T>;
    for_each_run(channels, begin, end, elements,
                 [&](index_t sample, index_t first, index_t last, const auto& channel) {
                     const A length = step[sample];
                     for (index_t i = first; i < last; ++i) {
                         const Channel<A> c = channel(i - first);
                         const std::int8_t sign = pack_sign(widen(grad[i]));
                         direction[i] = sign;
                         perturbed[i] = narrow<T>::from(
                             moved(widen(x[i]), length * c.scale, unpack_sign<A>(sign), c));
                     }
                 });
}

}  // namespace rrfast::cpu::RRFAST_ISA
