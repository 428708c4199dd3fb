// The walk that fgsm_step, perturb and rat_perturb share: runs of elements that lie in one sample
// and one channel, so that the loop over a run has constants only and vectorises.
#pragma once

#include "../kernels/math.h"

namespace rrfast::cpu::RRFAST_ISA {

// Calls run(sample, channel, first, last) for the runs of [begin, end); positions count over the
// whole batch.
template <class A, class Run>
RR_HD void for_each_run(const Channels<A>& channels, index_t begin, index_t end, index_t elements,
                        const Run& run) {
    index_t at = begin;
    while (at < end) {
        const index_t sample = at / elements;
        const index_t offset = at - sample * elements;
        const index_t left =
            (channels.uniform() ? elements - offset : channels.inner - offset % channels.inner);
        const index_t last = at + left < end ? at + left : end;
        const index_t channel =
            channels.uniform() ? 0 : offset / channels.inner % channels.channels;
        run(sample, channels.at(channel), at, last);
        at = last;
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
