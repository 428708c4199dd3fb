// The ops on CUDA: on the device of the input, on torch's current stream.
#include <torch/csrc/stable/accelerator.h>

#include <string>

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

// For `rrfast._native.kernel_attributes`: the resources of every kernel on the current device, as
// JSON; or a sentence that says why they are not to be had. Valid until the next call.
extern "C" __attribute__((visibility("default"))) const char* rrfast_kernel_attributes() {
    static std::string text;
    text = "{";
    for (const auto& kernel : rrfast::cuda::kernels()) {
        cudaFuncAttributes found;
        const cudaError_t status = cudaFuncGetAttributes(&found, kernel.function);
        if (status != cudaSuccess) {
            cudaGetLastError();  // else the next CUDA call of the process would report it
            return (text = kernel.name + ": " + cudaGetErrorString(status)).c_str();
        }
        text += text.size() > 1 ? ", " : "";
        text += "\"" + kernel.name + "\": {\"registers\": " + std::to_string(found.numRegs) +
                ", \"shared_bytes\": " + std::to_string(found.sharedSizeBytes) +
                ", \"local_bytes\": " + std::to_string(found.localSizeBytes) +
                ", \"max_threads\": " + std::to_string(found.maxThreadsPerBlock) + "}";
    }
    return (text += "}").c_str();
}

STABLE_TORCH_LIBRARY_IMPL(rrfast, CUDA, library) {
    rrfast::Ops<rrfast::Launchers<rrfast::CurrentStream>>::register_all(library);
}
