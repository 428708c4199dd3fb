// fgsm_step on the CPU: see csrc/kernels/fgsm_step.cu.
#pragma once

#include "steps.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void fgsm_step(const T* __restrict__ x, const T* __restrict__ grad,
               const accumulate_t<T>* __restrict__ step, const Channels<accumulate_t<T>>& channels,
               index_t begin, index_t end, index_t elements, bool streams,
               T* __restrict__ perturbed, std::int8_t* __restrict__ direction) {
    using A = accumulate_t<T>;
    write_runs(
        channels, begin, end, elements, streams,
        [&](index_t sample, index_t first, index_t last, const auto& channel, T* __restrict__ to,
            std::int8_t* __restrict__ packed) {
            const A length = step[sample];
            for (index_t i = 0; i < last - first; ++i) {
                const Channel<A> c = channel(i);
                const std::int8_t sign = pack_sign(widen(grad[first + i]));
                packed[i] = sign;
                to[i] = narrow<T>::from(
                    moved(widen(x[first + i]), length * c.scale, unpack_sign<A>(sign), c));
            }
        },
        perturbed, direction);
}

}  // namespace rrfast::cpu::RRFAST_ISA
