// rat_perturb on the CPU: see csrc/kernels/rat_perturb.cu.
#pragma once

#include "rows.h"
#include "steps.h"

namespace rrfast::cpu::RRFAST_ISA {

template <class T>
void rat_correct(const T* logits, const index_t* labels, index_t begin, index_t end,
                 index_t classes, bool* correct) {
    for_each_top2(logits, begin, end, classes, [&](index_t sample, const auto& top) {
        correct[sample] = top.first.index == labels[sample];
    });
}

template <class T>
void rat_perturb(const T* __restrict__ x, const T* __restrict__ grad,
                 const bool* __restrict__ correct, accumulate_t<T> eps_correct,
                 accumulate_t<T> eps_wrong, const Channels<accumulate_t<T>>& channels,
                 index_t begin, index_t end, index_t elements, bool streams,
                 T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    write_runs(
        channels, begin, end, elements, streams,
        [&](index_t sample, index_t first, index_t last, const auto& channel, T* __restrict__ to) {
            const A eps = correct[sample] ? eps_correct : eps_wrong;
            for (index_t i = 0; i < last - first; ++i) {
                const Channel<A> c = channel(i);
                const A sign = sign_or_zero(widen(grad[first + i]));
                to[i] = narrow<T>::from(moved(widen(x[first + i]), eps * c.scale, sign, c));
            }
        },
        perturbed);
}

}  // namespace rrfast::cpu::RRFAST_ISA
