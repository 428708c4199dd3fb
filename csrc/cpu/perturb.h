// perturb on the CPU: see csrc/kernels/perturb.cu.
#pragma once

#include "steps.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void perturb(const T* __restrict__ x, const std::int8_t* __restrict__ direction,
             const accumulate_t<T>* __restrict__ step, const Channels<accumulate_t<T>>& channels,
             index_t begin, index_t end, index_t elements, T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    for_each_run(channels, begin, end, elements,
                 [&](index_t sample, index_t first, index_t last, const auto& channel) {
                     const A length = step[sample];
                     for (index_t i = first; i < last; ++i) {
                         const Channel<A> c = channel(i - first);
                         perturbed[i] = narrow<T>::from(
                             moved(widen(x[i]), length * c.scale, unpack_sign<A>(direction[i]), c));
                     }
                 });
}

}  // namespace rrfast::cpu::RRFAST_ISA
