// fgsm_step: one step along the sign of the gradient, and the direction kept for the steps that
// follow.
//     perturbed = clamp(x + step_b * scale_c * sign(grad)),    direction = sign(grad) in one byte
// Eager torch runs a sign, a product, a sum, a clamp and a cast. Here x and grad are read once, and
// the sign, which every later step needs, is written too, at a quarter of the gradient's size. It
// takes a byte: two bits would save a twelfth of perturb's traffic in float32 and a seventh in 16
// bits, but need a layout of their own (benchmarks/direction_packing.md).
#include "../math/steps.h"
#include "vec.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
struct Loaded {
    Word<T, Width> x;
    Word<T, Width> grad;
};

template <class T, int Width, bool Ragged>
__global__ void __launch_bounds__(kThreads, 4)
    fgsm_step_kernel(const T* __restrict__ x, const T* __restrict__ grad,
                     const accumulate_t<T>* __restrict__ step, Channels<accumulate_t<T>> channels,
                     index_t elements, Tiles tiles, T* __restrict__ perturbed,
                     std::int8_t* __restrict__ direction) {
    using A = accumulate_t<T>;
    for_each_vector<Width, Ragged, 2>(
        tiles, elements, channels, [&](index_t sample) { return step[sample]; },
        [&](auto width, index_t at) {
            constexpr int w = decltype(width)::value;
            return Loaded<T, w>{load_word<T, w>(x + at), load_word<T, w>(grad + at)};
        },
        [&](auto width, index_t at, const auto& loaded, A length, auto next_channel) {
            constexpr int w = decltype(width)::value;
            const auto origin = bit_cast<Vector<T, w>>(loaded.x);
            const auto slope = bit_cast<Vector<T, w>>(loaded.grad);
            A moved_to[w];
            Vector<std::int8_t, w> sign;
#pragma unroll
            for (int e = 0; e < w; ++e) {
                const Channel<A> channel = next_channel();
                sign.element[e] = pack_sign(widen(slope.element[e]));
                moved_to[e] = moved(widen(origin.element[e]), length * channel.scale,
                                    unpack_sign<A>(sign.element[e]), channel);
            }
            store(perturbed + at, narrowed<T>(moved_to));
            store(direction + at, sign);
        });
}

}  // namespace

template <class T>
cudaError_t fgsm_step(const T* x, const T* grad, const accumulate_t<T>* step,
                      const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                      T* perturbed, std::int8_t* direction, cudaStream_t stream) {
    return for_access<kVectorWidth<T>>(elements, {x, grad, perturbed}, direction, [&](auto access) {
        const Tiles tiles = Tiles::over(access, x, samples, elements, channels);
        return launch(fgsm_step_kernel<T, access.width, access.ragged>, {tiles.blocks(), kThreads},
                      stream, x, grad, step, channels, elements, tiles, perturbed, direction);
    });
}

#define INSTANTIATE(T)                                                                        \
    template cudaError_t fgsm_step<T>(const T*, const T*, const accumulate_t<T>*,             \
                                      const Channels<accumulate_t<T>>&, index_t, index_t, T*, \
                                      std::int8_t*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList fgsm_step_kernels() {
    return access_instances("fgsm_step_kernel", [](auto type, auto access) {
        return reinterpret_cast<const void*>(
            fgsm_step_kernel<typename decltype(type)::type, access.width, access.ragged>);
    });
}

}  // namespace rrfast::cuda
