// perturb: a step of another length along a direction that is already known.
//     perturbed = clamp(x + step_b * scale_c * direction)
// Reads x and one byte per element in place of the gradient, writes the result.
#include "vec.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
__global__ void __launch_bounds__(kThreads)
    perturb_kernel(const T* __restrict__ x, const std::int8_t* __restrict__ direction,
                   const accumulate_t<T>* __restrict__ step, Channels<accumulate_t<T>> channels,
                   index_t elements, Tiles tiles, T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    for_each_vector_by_channel<Width>(
        tiles, elements, channels, [&](index_t sample, index_t offset, auto next_channel) {
            const index_t at = sample * elements + offset;
            const A length = step[sample];
            const auto origin = load<T, Width>(x + at);
            const auto sign = load<std::int8_t, Width>(direction + at);
            Vector<T, Width> moved_to;
#pragma unroll
            for (int e = 0; e < Width; ++e) {
                const Channel<A> channel = next_channel();
                moved_to.element[e] =
                    narrow<T>::from(moved(widen(origin.element[e]), length * channel.scale,
                                          unpack_sign<A>(sign.element[e]), channel));
            }
            store(perturbed + at, moved_to);
        });
}

}  // namespace

template <class T>
cudaError_t perturb(const T* x, const std::int8_t* direction, const accumulate_t<T>* step,
                    const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                    T* perturbed, cudaStream_t stream) {
    return for_width<kVectorWidth<T>>(elements, {x, perturbed}, direction, [&](auto width) {
        const Tiles tiles = Tiles::over<width>(samples, elements);
        return launch(perturb_kernel<T, width>, tiles.blocks(), kThreads, stream, x, direction,
                      step, channels, elements, tiles, perturbed);
    });
}

#define INSTANTIATE(T)                                                                      \
    template cudaError_t perturb<T>(const T*, const std::int8_t*, const accumulate_t<T>*,   \
                                    const Channels<accumulate_t<T>>&, index_t, index_t, T*, \
                                    cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList perturb_kernels() {
    return instances("perturb_kernel", [](auto type, auto width) {
        return reinterpret_cast<const void*>(perturb_kernel<typename decltype(type)::type, width>);
    });
}

}  // namespace rrfast::cuda
