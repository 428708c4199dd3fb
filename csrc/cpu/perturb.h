// perturb on the CPU: see csrc/kernels/perturb.cu.
#pragma once

#include "steps.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void perturb(const T* __restrict__ x, const std::int8_t* __restrict__ direction,
             const accumulate_t<T>* __restrict__ step, const Channels<accumulate_t<T>>& channels,
             index_t begin, index_t end, index_t elements, bool streams,
             T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    write_runs(
        channels, begin, end, elements, streams,
        [&](index_t sample, index_t first, index_t last, const auto& channel, T* __restrict__ to) {
            const A length = step[sample];
            for (index_t i = 0; i < last - first; ++i) {
                const Channel<A> c = channel(i);
                to[i] = narrow<T>::from(moved(widen(x[first + i]), length * c.scale,
                                              unpack_sign<A>(direction[first + i]), c));
            }
        },
        perturbed);
}

}  // namespace rrfast::cpu::RRFAST_ISA
