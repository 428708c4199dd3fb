// Steps along a packed direction, in the unit and the box of a channel: of fgsm_step, perturb and
// rat_perturb.
#pragma once

#include "numbers.h"

namespace rrfast {

// A direction is packed in one byte: -1, 0, +1, and a code for the sign of NaN, so that a broken
// gradient shows.
constexpr std::int8_t kNanDirection = -128;

template <class A>
RR_HD std::int8_t pack_sign(A gradient) {
    const int sign = (gradient > A(0)) - (gradient < A(0));
    return static_cast<std::int8_t>(is_nan(gradient) ? kNanDirection : sign);
}
template <class A>
RR_HD A unpack_sign(std::int8_t direction) {
    return direction == kNanDirection ? nan<A>() : static_cast<A>(direction);
}

// The sign of a training step: an element whose gradient is NaN does not move. With a gradient
// scaler, overflow is an ordinary event that shows in the parameters' gradients; an input of NaN
// would spoil BatchNorm's running statistics permanently.
template <class A>
RR_HD A sign_or_zero(A gradient) {
    const A positive = gradient > A(0) ? A(1) : A(0);
    return gradient < A(0) ? A(-1) : positive;
}

// The unit of a step and the box of a channel.
template <class A>
struct Channel {
    A scale;
    A lower;
    A upper;
};

// clamp(x + length * sign, lower, upper), where length = step * scale; NaN passes through the
// clamp, as in torch.clamp.
template <class A>
RR_HD A moved(A x, A length, A sign, const Channel<A>& channel) {
    const A v = x + length * sign;
    const A raised = v < channel.lower ? channel.lower : v;
    return raised > channel.upper ? channel.upper : raised;
}

// The channels of a batch. Element i of a sample, in memory order, belongs to channel (i / inner) %
// channels: inner = H * W for a contiguous [B, C, H, W], 1 for channels-last. A null pointer means
// no bounds, or unit scale; a stride of 0 means that one value serves all channels.
template <class A>
struct Channels {
    const A* lower = nullptr;  // [channels] or [1]
    const A* upper = nullptr;  // [channels] or [1]
    const A* scale = nullptr;  // [channels] or [1]
    index_t bounds_stride = 0;
    index_t scale_stride = 0;
    index_t channels = 1;
    index_t inner = 1;

    RR_HD bool uniform() const { return bounds_stride == 0 && scale_stride == 0; }
    RR_HD A unit(index_t channel) const { return scale ? scale[channel * scale_stride] : A(1); }
    RR_HD Channel<A> at(index_t channel) const {
        const A low = lower ? lower[channel * bounds_stride] : -infinity<A>();
        const A high = upper ? upper[channel * bounds_stride] : infinity<A>();
        // A bound of NaN makes every result NaN, as in torch.clamp. Passing it on through the unit
        // costs the clamp nothing; with one more comparison, compilers would no longer vectorise
        // it.
        return {is_nan(low) || is_nan(high) ? nan<A>() : unit(channel), low, high};
    }
};

}  // namespace rrfast
