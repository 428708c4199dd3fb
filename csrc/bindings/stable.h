// The parts of torch that the bindings need, through its stable ABI only, so that one build works
// with torch 2.10 and later.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <array>
#include <optional>
#include <vector>

#include "../math/numbers.h"

namespace rrfast {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// ------------------------------------------------------------------------------------------------------------
// dtypes

template <class T>
struct Type {
    using type = T;
};

// Calls body(Type<T>) with the kernels' element type for a dtype.
template <class Body>
auto dispatch_floating(ScalarType dtype, const char* argument, const Body& body) {
    switch (dtype) {
        case ScalarType::Float:
            return body(Type<float>{});
        case ScalarType::Double:
            return body(Type<double>{});
        case ScalarType::BFloat16:
            return body(Type<bfloat16>{});
        case ScalarType::Half:
            return body(Type<float16>{});
        default:
            STD_TORCH_CHECK(false, argument, " must be float64, float32, bfloat16 or float16");
    }
}

inline ScalarType accumulate_dtype(ScalarType dtype) {
    return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

template <class T>
const T* data(const Tensor& tensor) {
    return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* mutable_data(const Tensor& tensor) {
    return static_cast<T*>(tensor.mutable_data_ptr());
}

// -----------------------------------------------------------------------------------------------------------
// layouts

inline bool is_channels_last(const Tensor& tensor) {
    const auto sizes = tensor.sizes();
    const auto strides = tensor.strides();
    const std::int64_t rank = tensor.dim();
    if (rank != 4 && rank != 5) {
        return false;
    }
    std::int64_t expected = 1;
    const auto matches = [&](std::int64_t dim) {
        const bool ok = sizes[dim] == 1 || strides[dim] == expected;
        expected *= sizes[dim];
        return ok;
    };
    bool ok = matches(1);
    for (std::int64_t dim = rank - 1; dim >= 2; --dim) {
        ok = matches(dim) && ok;
    }
    return matches(0) && ok;
}

// The order of a sample's elements in memory. A tensor that is both counts as contiguous.
enum class Layout { contiguous, channels_last };

inline MemoryFormat memory_format(Layout layout, const Tensor& tensor) {
    return layout == Layout::contiguous ? MemoryFormat::Contiguous
           : tensor.dim() == 4          ? MemoryFormat::ChannelsLast
                                        : MemoryFormat::ChannelsLast3d;
}

inline Layout layout_of(const Tensor& tensor) {
    return !tensor.is_contiguous() && is_channels_last(tensor) ? Layout::channels_last
                                                               : Layout::contiguous;
}

inline bool lies(const Tensor& tensor, Layout layout) {
    return layout == Layout::contiguous ? tensor.is_contiguous() : is_channels_last(tensor);
}

// The tensor itself if it has that layout, else a copy with it.
inline Tensor laid_out(const Tensor& tensor, Layout layout) {
    return lies(tensor, layout) ? tensor
                                : torch::stable::contiguous(tensor, memory_format(layout, tensor));
}

// Memory fresh from the system comes page by page, each at a fault, and four fifths of a large
// result's time go into that. Asks for pages of 2 MiB in place of 4 KiB, which the kernel gives
// where it has them (benchmarks/streaming.md).
inline void in_huge_pages(const Tensor& tensor) {
#ifdef MADV_HUGEPAGE
    constexpr std::uintptr_t huge = std::uintptr_t(2) << 20;
    const std::uintptr_t bytes = tensor.numel() * tensor.element_size();
    if (bytes >= 2 * huge && tensor.is_cpu()) {
        const auto begin = reinterpret_cast<std::uintptr_t>(tensor.mutable_data_ptr());
        const std::uintptr_t first = (begin + huge - 1) / huge * huge;
        const std::uintptr_t last = (begin + bytes) / huge * huge;
        // It is a hint: where it is refused, pages are small.
        madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
    }
#endif
}

inline Tensor empty(const std::int64_t* sizes, const std::int64_t* strides, std::int64_t rank,
                    ScalarType dtype, const Tensor& like) {
    std::int32_t device_type;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
    AtenTensorHandle handle;
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
        rank, sizes, strides,
        torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(dtype)), device_type,
        like.get_device_index(), &handle));
    return Tensor(handle);
}

inline Tensor empty_vector(std::int64_t length, ScalarType dtype, const Tensor& like) {
    const std::int64_t stride = 1;
    return empty(&length, &stride, 1, dtype, like);
}

// An uninitialised tensor of the shape of `tensor`, in that layout.
inline Tensor empty_like(const Tensor& tensor, Layout layout, ScalarType dtype) {
    const auto sizes = tensor.sizes();
    const std::int64_t rank = tensor.dim();
    std::vector<std::int64_t> strides(rank);
    std::int64_t stride = 1;
    const auto next = [&](std::int64_t dim) {
        strides[dim] = stride;
        stride *= sizes[dim] > 1 ? sizes[dim] : 1;
    };
    if (layout == Layout::channels_last) {
        next(1);
    }
    for (std::int64_t dim = rank - 1; dim >= 0; --dim) {
        if (!(layout == Layout::channels_last && dim == 1)) {
            next(dim);
        }
    }
    return empty(sizes.data(), strides.data(), rank, dtype, tensor);
}

}  // namespace rrfast
