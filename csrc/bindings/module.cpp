// rrfast._C: what this build is and what its kernels use. No tensors and no torch header: it
// compiles in seconds and runs beside any torch. The ops themselves are in librrfast_cpu.so and
// librrfast_cuda.so.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#ifdef RRFAST_CUDA_VERSION
#include "../kernels/launch.h"
#endif

namespace py = pybind11;

namespace {

py::list split(const char* names) { return py::str(names).attr("split")(","); }

std::string compiler() {
#ifdef __clang__
    return "Clang " __clang_version__;
#else
    return "GCC " __VERSION__;
#endif
}

py::dict build_info() {
    constexpr unsigned long long target = RRFAST_TORCH_TARGET;
    py::dict info;
    info["version"] = RRFAST_VERSION;
    info["compiler"] = compiler();
    info["instruction_sets"] = split(RRFAST_INSTRUCTION_SETS);
    info["torch_headers"] = RRFAST_TORCH_VERSION;
    info["torch_target"] =
        std::to_string(target >> 56) + "." + std::to_string((target >> 48) & 0xff);
#ifdef RRFAST_CUDA_VERSION
    info["cuda"] = RRFAST_CUDA_VERSION;
    info["cuda_architectures"] = split(RRFAST_CUDA_ARCHITECTURES);
#else
    info["cuda"] = py::none();
    info["cuda_architectures"] = py::list();
#endif
    return info;
}

py::dict kernel_attributes() {
    py::dict kernels;
#ifdef RRFAST_CUDA_VERSION
    for (const auto& kernel : rrfast::cuda::kernels()) {
        cudaFuncAttributes attributes;
        const cudaError_t status = cudaFuncGetAttributes(&attributes, kernel.function);
        if (status != cudaSuccess) {
            cudaGetLastError();  // else the next CUDA call of the process would report it
            throw std::runtime_error(std::string("kernel_attributes: ") + kernel.name + ": " +
                                     cudaGetErrorString(status));
        }
        py::dict entry;
        entry["registers"] = attributes.numRegs;
        entry["shared_bytes"] = attributes.sharedSizeBytes;
        entry["local_bytes"] = attributes.localSizeBytes;
        entry["max_threads"] = attributes.maxThreadsPerBlock;
        kernels[py::str(kernel.name)] = entry;
    }
#endif
    return kernels;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
    module.doc() = "What this build of rrfast is and what its kernels use.";
    module.def("build_info", &build_info,
               "Versions, compiler, instruction sets and CUDA architectures of this build.");
    module.def("kernel_attributes", &kernel_attributes,
               "Registers, shared and local bytes and the largest block of every CUDA kernel on "
               "the current device; "
               "empty without CUDA kernels, RuntimeError without a device.");
}
