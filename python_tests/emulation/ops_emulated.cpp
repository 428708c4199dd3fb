// The ops by the emulated launchers, for torch's CPU key: in the place of librrfast_cpu.so.
#include "csrc/bindings/launchers.h"

namespace {

struct NoStream {
    explicit NoStream(const rrfast::Tensor&) {}
    operator cudaStream_t() const { return nullptr; }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(rrfast, CPU, library) {
    rrfast::Ops<rrfast::Launchers<NoStream>>::register_all(library);
}
