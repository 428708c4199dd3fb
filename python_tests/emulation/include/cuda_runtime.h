// A stand-in for the CUDA runtime's header of this name: what the kernels of csrc/kernels and their
// launchers take from it, for a CPU. ../emulator.h says what runs them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <tuple>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

using cudaStream_t = struct CUstream_st*;
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorLaunchFailure = 719,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaDeviceAttr {
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension = 4 };
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct {
        dim3 clusterDim;
    } val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute* attrs;
    unsigned numAttrs;
};

const char* cudaGetErrorString(cudaError_t status);  // of a failed launch: what it did wrong
cudaError_t cudaGetLastError();
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes);
cudaError_t cudaMemcpy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind);

namespace emulated {

struct Settings {
    unsigned long
        seed;  // of the order in which blocks, warps and lanes run; 0: as they are numbered
    unsigned most_blocks;  // of a launch, to which the kernels' own loops must do the rest; 0: any
    unsigned only_ends;    // how many of the first and of the last blocks run; 0: all
    unsigned capability;   // of the device: 80 or 90
};
// At first those of the environment: RRFAST_EMULATED_SEED, …_BLOCKS, …_ENDS, …_CAPABILITY.
extern Settings settings;

// The books: accesses to global memory,
void reads_constant(const void* source, std::size_t bytes);  // that no thread of the launch writes
void reads_constant_or_shared(const void* source, std::size_t bytes);
void reads_changing(const void* source, std::size_t bytes);
void writes(const void* target, std::size_t bytes);  // that no other thread writes
// and to a block's.
void reads_shared(const void* source, std::size_t bytes);
void writes_shared(const void* target, std::size_t bytes);
// The running block's array of that name, of all bits set when the block begins.
void* shared_memory(const void* name, std::size_t bytes);
void* dynamic_shared_memory();  // its memory that the launch asked for
// Done at once or as late as wait_for_copies.
void copy_to_shared(void* target, const void* source, std::size_t bytes);
void wait_for_copies();

void block_barrier();
void cluster_barrier();
unsigned cluster_rank();
unsigned cluster_blocks();
void* in_block_of_cluster(void* shared,
                          unsigned rank);  // that block's copy of what is here `shared`
int shuffle_xor(unsigned mask, int value, int lanes);

extern std::map<const void*, unsigned long> launched;  // how often each kernel was

// What a thread did: bytes from memory into registers, past them into the block's memory, from
// there into registers, and out to memory; shuffles, and how many came after another.
struct Work {
    std::size_t loaded, copied, kept, stored;
    unsigned long shuffles, steps;
};
// What a launch asked for, and what its first cluster did.
struct Launch {
    const void* kernel;
    dim3 grid, block;
    unsigned cluster;
    std::size_t shared;  // bytes of a block
    Work all, most;      // threads together; the most of any
    unsigned long barriers, cluster_barriers;
};
extern std::vector<Launch>* launches;  // where to note each, if anywhere

cudaError_t run(const cudaLaunchConfig_t& config, const void* kernel, void (*body)(const void*),
                const void* context);

}  // namespace emulated

extern uint3 threadIdx, blockIdx;  // of the thread that runs now
extern dim3 blockDim, gridDim;

inline void __syncthreads() { ::emulated::block_barrier(); }
inline int __shfl_xor_sync(unsigned mask, int value, int lanes) {
    return ::emulated::shuffle_xor(mask, value, lanes);
}
template <class V>
V __ldg(const V* source) {
    return *source;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    struct Call {
        void (*kernel)(Parameters...);
        std::tuple<Parameters...> arguments;
    };
    const Call call{kernel, std::tuple<Parameters...>(arguments...)};
    return ::emulated::run(
        *config, reinterpret_cast<const void*>(kernel),
        [](const void* context) {
            const auto* call = static_cast<const Call*>(context);
            std::apply(call->kernel, call->arguments);
        },
        &call);
}
