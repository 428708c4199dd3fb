#pragma once

#include "numbers.h"

namespace rrfast {

// The distance of the plane, or the longest step if that is infinite or NaN; never so short that
// rounding of the largest x would leave nothing of it.
template <class A>
RR_HD A probe_length(A distance, A largest, A finest, A longest) {
    const A wanted = distance < infinity<A>() ? distance : longest;
    const A length = larger(wanted, largest * finest);
    return smaller(length, longest);
}

}  // namespace rrfast
