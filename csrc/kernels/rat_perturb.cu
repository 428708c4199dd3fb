// rat_perturb: the perturbation of Radius Aware Training. Two launches: which samples are right
// (B*K read), then one step along the sign of the gradient whose length and sign depend on that
// (2*B*N read, B*N written).
//     perturbed = clamp(x + eps_b * scale_c * sign(grad)),    eps_b = eps_correct if argmax(logits)
//     == label else eps_wrong
// RAT is (eps, -eps), AT (eps, eps), ReverseAT (-eps, -eps).
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kRowThreads, 2)
    rat_correct_kernel(const T* __restrict__ logits, const index_t* __restrict__ labels,
                       index_t samples, index_t classes, bool* __restrict__ correct) {
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const index_t label = labels[sample];  // asked for now, it comes while the row does
        const auto best = row_argmax<Width>(logits + sample * classes, count);
        if (writes && threadIdx.x == 0) {
            correct[sample] = best.index == label;
        }
    });
}

template <class T, int Width>
__global__ void __launch_bounds__(kThreads, 4)
    rat_perturb_kernel(const T* __restrict__ x, const T* __restrict__ grad,
                       const bool* __restrict__ correct, accumulate_t<T> eps_correct,
                       accumulate_t<T> eps_wrong, Channels<accumulate_t<T>> channels,
                       index_t elements, Tiles tiles, T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    struct Loaded {
        Word<T, Width> x, grad;
    };
    for_each_vector<Width, 2>(
        tiles, elements, channels,
        [&](index_t sample) { return correct[sample] ? eps_correct : eps_wrong; },
        [&](index_t at) {
            return Loaded{load_word<T, Width>(x + at), load_word<T, Width>(grad + at)};
        },
        [&](index_t at, const Loaded& loaded, A eps, auto next_channel) {
            const auto origin = bit_cast<Vector<T, Width>>(loaded.x);
            const auto slope = bit_cast<Vector<T, Width>>(loaded.grad);
            A moved_to[Width];
#pragma unroll
            for (int e = 0; e < Width; ++e) {
                const Channel<A> channel = next_channel();
                const A sign = sign_or_zero(widen(slope.element[e]));
                moved_to[e] = moved(widen(origin.element[e]), eps * channel.scale, sign, channel);
            }
            store(perturbed + at, narrowed<T>(moved_to));
        });
}

}  // namespace

template <class T>
cudaError_t rat_correct(const T* logits, const index_t* labels, index_t samples, index_t classes,
                        bool* correct, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(classes, {logits}, nullptr, [&](auto width) {
        return launch(rat_correct_kernel<T, width>, row_grid(samples, classes, width), stream,
                      logits, labels, samples, classes, correct);
    });
}

template <class T>
cudaError_t rat_perturb(const T* x, const T* grad, const bool* correct, accumulate_t<T> eps_correct,
                        accumulate_t<T> eps_wrong, const Channels<accumulate_t<T>>& channels,
                        index_t samples, index_t elements, T* perturbed, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(elements, {x, grad, perturbed}, nullptr, [&](auto width) {
        const Tiles tiles = Tiles::over<width>(samples, elements, channels);
        return launch(rat_perturb_kernel<T, width>, {tiles.blocks(), kThreads}, stream, x, grad,
                      correct, eps_correct, eps_wrong, channels, elements, tiles, perturbed);
    });
}

#define INSTANTIATE(T)                                                                     \
    template cudaError_t rat_correct<T>(const T*, const index_t*, index_t, index_t, bool*, \
                                        cudaStream_t);                                     \
    template cudaError_t rat_perturb<T>(const T*, const T*, const bool*, accumulate_t<T>,  \
                                        accumulate_t<T>, const Channels<accumulate_t<T>>&, \
                                        index_t, index_t, T*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList rat_perturb_kernels() {
    KernelList list = instances("rat_correct_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            rat_correct_kernel<typename decltype(type)::type, width>);
    });
    const KernelList steps = instances("rat_perturb_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            rat_perturb_kernel<typename decltype(type)::type, width>);
    });
    list.insert(list.end(), steps.begin(), steps.end());
    return list;
}

}  // namespace rrfast::cuda
