// The ops on CUDA: on the device of the input, on torch's current stream.
#include <torch/csrc/stable/accelerator.h>

#include "launchers.h"

// Exported by libtorch_cuda; torch's header shows it only to builds that have the CUDA toolkit's
// torch.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(std::int32_t device_index,
                                                             void** stream);

namespace rrfast {
namespace {

class CurrentStream {
public:
    explicit CurrentStream(const Tensor& tensor) : guard_(tensor.get_device_index()) {
        void* stream = nullptr;
        TORCH_ERROR_CODE_CHECK(
            aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
        stream_ = static_cast<cudaStream_t>(stream);
    }
    operator cudaStream_t() const { return stream_; }

private:
    torch::stable::accelerator::DeviceGuard guard_;
    cudaStream_t stream_ = nullptr;
};

}  // namespace
}  // namespace rrfast

STABLE_TORCH_LIBRARY_IMPL(rrfast, CUDA, library) {
    rrfast::Ops<rrfast::Launchers<rrfast::CurrentStream>>::register_all(library);
}
