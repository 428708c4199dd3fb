// fgsm_step: one step along the sign of the gradient, and the direction kept for the steps that
// follow.
//     perturbed = clamp(x + step_b * scale_c * sign(grad)),    direction = sign(grad) in one byte
// Eager torch makes a sign, a product, a sum, a clamp and a cast; here x and grad are read once,
// and the sign that every later step needs is written beside the result at a quarter of the
// gradient's size. A byte, not two bits: two bits would save a twelfth of perturb's traffic in
// float32 and a seventh in 16 bits, and cost a layout that nothing else shares
// (benchmarks/direction_packing.md).
#include "vec.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kThreads, 4)
    fgsm_step_kernel(const T* __restrict__ x, const T* __restrict__ grad,
                     const accumulate_t<T>* __restrict__ step, Channels<accumulate_t<T>> channels,
                     index_t elements, Tiles tiles, T* __restrict__ perturbed,
                     std::int8_t* __restrict__ direction) {
    using A = accumulate_t<T>;
    struct Loaded {
        Word<T, Width> x, grad;
    };
    for_each_vector<Width, 2>(
        tiles, elements, channels, [&](index_t sample) { return step[sample]; },
        [&](index_t at) {
            return Loaded{load_word<T, Width>(x + at), load_word<T, Width>(grad + at)};
        },
        [&](index_t at, const Loaded& loaded, A length, auto next_channel) {
            const auto origin = bit_cast<Vector<T, Width>>(loaded.x);
            const auto slope = bit_cast<Vector<T, Width>>(loaded.grad);
            A moved_to[Width];
            Vector<std::int8_t, Width> sign;
#pragma unroll
            for (int e = 0; e < Width; ++e) {
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
    return for_width<kVectorWidth<T>>(elements, {x, grad, perturbed}, direction, [&](auto width) {
        const Tiles tiles = Tiles::over<width>(samples, elements, channels);
        return launch(fgsm_step_kernel<T, width>, {tiles.blocks(), kThreads}, stream, x, grad, step,
                      channels, elements, tiles, perturbed, direction);
    });
}

#define INSTANTIATE(T)                                                                        \
    template cudaError_t fgsm_step<T>(const T*, const T*, const accumulate_t<T>*,             \
                                      const Channels<accumulate_t<T>>&, index_t, index_t, T*, \
                                      std::int8_t*, cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList fgsm_step_kernels() {
    return instances("fgsm_step_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(
            fgsm_step_kernel<typename decltype(type)::type, width>);
    });
}

}  // namespace rrfast::cuda
