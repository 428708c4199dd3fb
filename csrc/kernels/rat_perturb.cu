// rat_perturb: the perturbation of Radius Aware Training, in two launches: which samples are right
// (B*K read), then one step along the sign of the gradient whose length and sign depend on that
// (2*B*N read, B*N written).
//     perturbed = clamp(x + eps_b * scale_c * sign(grad)),    eps_b = eps_correct if argmax(logits)
//     == label else eps_wrong
// RAT is (eps, -eps), AT (eps, eps), ReverseAT (-eps, -eps).
#include "../math/steps.h"
#include "launch.h"
#include "row_reduce.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width, bool Ragged>
__global__ void __launch_bounds__(kRowThreads, 2)
    rat_correct_kernel(const T* __restrict__ logits, const index_t* __restrict__ labels,
                       index_t samples, index_t classes, bool* __restrict__ correct) {
    for_each_row(samples, classes, [&](index_t sample, RowIndex count, bool writes) {
        const index_t label = labels[sample];  // loaded now, in flight together with the row
        const T* row = logits + sample * classes;
        const auto best = row_argmax(row, Span<Width, Ragged>(row, count));
        if (writes && threadIdx.x == 0) {
            correct[sample] = best.index == label;
        }
    });
}

template <class T, int Width>
struct Loaded {
    Word<T, Width> x;
    Word<T, Width> grad;
};

template <class T, int Width, bool Ragged>
__global__ void __launch_bounds__(kThreads, 4)
    rat_perturb_kernel(const T* __restrict__ x, const T* __restrict__ grad,
                       const bool* __restrict__ correct, accumulate_t<T> eps_correct,
                       accumulate_t<T> eps_wrong, Channels<accumulate_t<T>> channels,
                       index_t elements, Tiles tiles, T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    for_each_vector<Width, Ragged, 2>(
        tiles, elements, channels,
        [&](index_t sample) { return correct[sample] ? eps_correct : eps_wrong; },
        [&](auto width, index_t at) {
            constexpr int w = decltype(width)::value;
            return Loaded<T, w>{load_word<T, w>(x + at), load_word<T, w>(grad + at)};
        },
        [&](auto width, index_t at, const auto& loaded, A eps, auto next_channel) {
            constexpr int w = decltype(width)::value;
            const auto origin = bit_cast<Vector<T, w>>(loaded.x);
            const auto slope = bit_cast<Vector<T, w>>(loaded.grad);
            A moved_to[w];
#pragma unroll
            for (int e = 0; e < w; ++e) {
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
    return for_access<kVectorWidth<T>>(classes, {logits}, nullptr, [&](auto access) {
        return launch(rat_correct_kernel<T, access.width, access.ragged>,
                      row_grid(samples, classes, access.width), stream, logits, labels, samples,
                      classes, correct);
    });
}

template <class T>
cudaError_t rat_perturb(const T* x, const T* grad, const bool* correct, accumulate_t<T> eps_correct,
                        accumulate_t<T> eps_wrong, const Channels<accumulate_t<T>>& channels,
                        index_t samples, index_t elements, T* perturbed, cudaStream_t stream) {
    return for_access<kVectorWidth<T>>(elements, {x, grad, perturbed}, nullptr, [&](auto access) {
        const Tiles tiles = Tiles::over(access, x, samples, elements, channels);
        return launch(rat_perturb_kernel<T, access.width, access.ragged>,
                      {tiles.blocks(), kThreads}, stream, x, grad, correct, eps_correct, eps_wrong,
                      channels, elements, tiles, perturbed);
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
    KernelList list = access_instances("rat_correct_kernel", [](auto type, auto access) {
        return reinterpret_cast<const void*>(
            rat_correct_kernel<typename decltype(type)::type, access.width, access.ragged>);
    });
    const KernelList steps = access_instances("rat_perturb_kernel", [](auto type, auto access) {
        return reinterpret_cast<const void*>(
            rat_perturb_kernel<typename decltype(type)::type, access.width, access.ragged>);
    });
    list.insert(list.end(), steps.begin(), steps.end());
    return list;
}

}  // namespace rrfast::cuda
