// perturb: a step of another length along a direction that is already known.
//     perturbed = clamp(x + step_b * scale_c * direction)
// Reads x and one byte per element instead of the gradient, and writes the result.
#include "../math/steps.h"
#include "vec.cuh"

namespace rrfast::cuda {
namespace {

template <class T, int Width>
struct Loaded {
    Word<T, Width> x;
    Word<std::int8_t, Width> direction;
};

template <class T, int Width, bool Ragged>
__global__ void __launch_bounds__(kThreads, 4)
    perturb_kernel(const T* __restrict__ x, const std::int8_t* __restrict__ direction,
                   const accumulate_t<T>* __restrict__ step, Channels<accumulate_t<T>> channels,
                   index_t elements, Tiles tiles, T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    for_each_vector<Width, Ragged, Ragged ? 2 : 4>(
        tiles, elements, channels, [&](index_t sample) { return step[sample]; },
        [&](auto width, index_t at) {
            constexpr int w = decltype(width)::value;
            return Loaded<T, w>{load_word<T, w>(x + at), load_word<std::int8_t, w>(direction + at)};
        },
        [&](auto width, index_t at, const auto& loaded, A length, auto next_channel) {
            constexpr int w = decltype(width)::value;
            const auto origin = bit_cast<Vector<T, w>>(loaded.x);
            const auto sign = bit_cast<Vector<std::int8_t, w>>(loaded.direction);
            A moved_to[w];
#pragma unroll
            for (int e = 0; e < w; ++e) {
                const Channel<A> channel = next_channel();
                moved_to[e] = moved(widen(origin.element[e]), length * channel.scale,
                                    unpack_sign<A>(sign.element[e]), channel);
            }
            store(perturbed + at, narrowed<T>(moved_to));
        });
}

}  // namespace

template <class T>
cudaError_t perturb(const T* x, const std::int8_t* direction, const accumulate_t<T>* step,
                    const Channels<accumulate_t<T>>& channels, index_t samples, index_t elements,
                    T* perturbed, cudaStream_t stream) {
    return for_access<kVectorWidth<T>>(elements, {x, perturbed}, direction, [&](auto access) {
        const Tiles tiles = Tiles::over(access, x, samples, elements, channels);
        return launch(perturb_kernel<T, access.width, access.ragged>, {tiles.blocks(), kThreads},
                      stream, x, direction, step, channels, elements, tiles, perturbed);
    });
}

#define INSTANTIATE(T)                                                                      \
    template cudaError_t perturb<T>(const T*, const std::int8_t*, const accumulate_t<T>*,   \
                                    const Channels<accumulate_t<T>>&, index_t, index_t, T*, \
                                    cudaStream_t);
RR_FOR_EACH_TYPE(INSTANTIATE)

KernelList perturb_kernels() {
    return access_instances("perturb_kernel", [](auto type, auto access) {
        return reinterpret_cast<const void*>(
            perturb_kernel<typename decltype(type)::type, access.width, access.ragged>);
    });
}

}  // namespace rrfast::cuda
