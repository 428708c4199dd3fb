// Chooses, once per process, the kernels for the processor at hand.
#include "kernels.h"

namespace rrfast::cpu {

namespace baseline {
template <class T>
const Kernels<T>& kernels();
}
namespace x86_64_v3 {
template <class T>
const Kernels<T>& kernels();
}
namespace x86_64_v4 {
template <class T>
const Kernels<T>& kernels();
}

#ifdef RRFAST_HAS_X86_64_LEVELS
static bool has_x86_64_v3() {
    // The features of the level that the compiler may use; asked one by one because older compilers
    // do not know its name.
    static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                            __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") &&
                            __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe") &&
                            __builtin_cpu_supports("f16c");
    return has;
}
static bool has_x86_64_v4() {
    static const bool has =
        has_x86_64_v3() && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return has;
}
template <class T>
const Kernels<T>& kernels() {
    static const Kernels<T>& chosen = has_x86_64_v4()   ? x86_64_v4::kernels<T>()
                                      : has_x86_64_v3() ? x86_64_v3::kernels<T>()
                                                        : baseline::kernels<T>();
    return chosen;
}
const char* instruction_set() {
    return has_x86_64_v4() ? "x86-64-v4" : has_x86_64_v3() ? "x86-64-v3" : "baseline";
}
#else
template <class T>
const Kernels<T>& kernels() {
    return baseline::kernels<T>();
}
const char* instruction_set() { return "baseline"; }
#endif

#define INSTANTIATE(T) template const Kernels<T>& kernels<T>();
RR_FOR_EACH_TYPE(INSTANTIATE)

}  // namespace rrfast::cpu
