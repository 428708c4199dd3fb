// Where a ray crosses a plane, and the next ray.
#pragma once

#include "plane_distance.h"
#include "steps.h"

namespace rrfast {

// z_i - x_i in the dtype of x, for the point z at a step along a sign. length = step * scale.
template <class T, class A = accumulate_t<T>>
RR_HD A displacement(A x, A length, A sign, const Channel<A>& channel) {
    const A z = widen(narrow<T>::from(moved(x, length, sign, channel)));
    return widen(narrow<T>::from(z - x));
}

// Where a ray crosses a plane that is `gap` from x, if `step` along the ray closes `way` of it;
// infinity for nowhere.
template <class A>
RR_HD A ray_crossing(A step, A gap, A way) {
    const A at = step * gap / way;
    return at > A(0) ? at : infinity<A>();
}

// What the plane says of the ray from which it was seen.
template <class A>
struct SeenPlane {
    A gap;       // from x
    A crossing;  // of the ray
    A probe;     // the crossing, or where the search goes on if there is none
    bool nearer;
};
// `gap` is that from z, `next` what the search says, `nearest` the crossing of the nearest ray so
// far, NaN for none.
template <class A>
RR_HD SeenPlane<A> seen_plane(A step, A gap, A way, A next, A nearest) {
    const A whole = gap + way;
    const A crossing = ray_crossing(step, whole, way);
    return {whole, crossing, crossing < infinity<A>() ? crossing : next, !(crossing >= nearest)};
}

// Both for one sample: state [6] of its search and rival; nearest [8] and flipped_to, which learn
// from them. Numbers of a sample are `samples` apart.
template <class A>
RR_HD void learn_from_ray(const SeenPlane<A>& seen, const A* state, index_t rival, index_t samples,
                          A* nearest, index_t* flipped_to) {
    if (seen.nearer) {
        for (index_t row = 0; row < 5; ++row) {
            nearest[row * samples] = state[row * samples];
        }
        nearest[5 * samples] = seen.probe;
        nearest[6 * samples] = seen.crossing;
    }
    if (state[samples] < nearest[7 * samples]) {
        nearest[7 * samples] = state[samples];
        *flipped_to = rival;
    }
}

// What a normal is multiplied by, so that scale_c |normal_i| has mean 1: `size` is their sum. 0
// where there is none.
template <class A, class S>
RR_HD A normal_factor(S size, A elements) {
    const A factor = newton_step(Faces<S>{S(0), size, infinity<S>()}, A(0), elements, A(1)).step;
    return factor == infinity<A>() ? A(0) : factor;
}

// Half of the aim, half of the normal.
template <class A>
RR_HD A redirected(A aim, A normal) {
    return aim - (aim - normal) * A(0.5);
}

// The step along the new ray: its crossing with the plane, as a look at `probe` tells, and `probe`
// itself if there is none; no further than the smallest step that flipped.
template <class A>
RR_HD A redirected_step(A probe, A gap, A way, A flipped) {
    const A reach = ray_crossing(probe, gap, way);
    return smaller(reach < infinity<A>() ? reach : probe, flipped);
}

}  // namespace rrfast
