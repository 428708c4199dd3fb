// What every launcher asks of a device for tensors of given shapes, and what the threads of its
// first blocks do there: for the predictions of benchmarks/GPU.md. Tensors are zero, but for what
// decides how much there is to do: the first image's way to its plane.
//
//     emulated_launches < lines of
//         OP float|double|bfloat16|float16 SAMPLES CLASSES
//         OP float|double|bfloat16|float16 SAMPLES CHANNELS PLACES [by-channel [channels-last]]
//
// Each line is answered by one, a list of launches.
#include <algorithm>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "csrc/kernels/launch.h"

using namespace rrfast;

namespace {

template <class V>
class Zeros {
public:
    explicit Zeros(index_t count) {
        void* memory = nullptr;
        cudaMalloc(&memory, count * sizeof(V));
        cudaMemset(memory, 0, count * sizeof(V));
        memory_ = static_cast<V*>(memory);
    }
    Zeros(const Zeros&) = delete;
    ~Zeros() { cudaFree(memory_); }
    operator V*() const { return memory_; }

private:
    V* memory_;
};

template <class T>
cudaError_t rows(const std::string& op, index_t b, index_t k) {
    using A = accumulate_t<T>;
    const Zeros<T> h(b * k), result(b * k);
    const Zeros<index_t> y(b), other(b);
    const Zeros<A> state(6 * b);
    return op == "direction_seed"
               ? cuda::direction_seed<T>(h, b, k, 1.0, y, state, result, other, state + b, nullptr)
           : op == "linear_radius"
               ? cuda::linear_radius<T>(h, result, y, b, k, 0.01, nullptr, state, other, nullptr)
           : op == "bisection_step_" ? cuda::bisection_step_<T>(h, y, b, k, state, state + b,
                                                                state + 2 * b, other, nullptr)
           : op == "search_step_" ? cuda::search_step_<T>(h, y, b, k, 0.01, state, other, nullptr)
           : op == "plane_seed"   ? cuda::plane_seed<T>(h, y, other, b, k, result, state, nullptr)
           : op == "loss_seed"
               ? cuda::loss_seed<T>(h, y, nullptr, b, k, AttackLoss::ce, state, result, nullptr)
           : op == "probability_margin"
               ? cuda::probability_margin<T>(h, y, b, k, state, state + b, state + 2 * b,
                                             state + 3 * b, nullptr)
           : op == "rat_correct"
               ? cuda::rat_correct<T>(h, y, b, k, reinterpret_cast<bool*>(&*other), nullptr)
               : cudaErrorInvalidConfiguration;
}

template <class T>
cudaError_t images(const std::string& op, index_t b, index_t channels, index_t places,
                   bool by_channel, bool channels_last) {
    using A = accumulate_t<T>;
    const index_t n = channels * places;
    const Zeros<T> x(b * n), slope(b * n), result(b * n);
    const Zeros<std::int8_t> direction(b * n), nearest(b * n);
    const Zeros<A> step(b), found(2 * b), rays(14 * b), aim(b * n), bounds(2 * channels),
        scale(channels);
    const Zeros<std::uint8_t> correct(b);
    const Zeros<index_t> classes(b);
    std::fill_n(bounds + channels, channels, A(1));
    std::fill_n(scale + 0, channels, A(1));
    // In a box, two thirds of the elements meet it on the way: three looks.
    for (index_t i = 0; i < n; ++i) {
        slope[i] = narrow<T>::from(A(1));
        x[i] = narrow<T>::from(i % 3 == 0 ? A(0.8) : i % 3 == 1 ? A(0.6) : A(0));
    }
    step[0] = static_cast<A>(0.35 * n);
    Channels<A> box;
    box.channels = channels;
    box.inner = channels_last ? 1 : places;
    if (op != "probe_step" && (by_channel || op == "plane_distance")) {
        box.lower = bounds;
        box.upper = bounds + channels;
        box.bounds_stride = by_channel;
    }
    if (by_channel) {
        box.scale = scale;
        box.scale_stride = 1;
    }
    return op == "fgsm_step"
               ? cuda::fgsm_step<T>(x, slope, step, box, b, n, result, direction, nullptr)
           : op == "perturb" ? cuda::perturb<T>(x, direction, step, box, b, n, result, nullptr)
           : op == "rat_perturb"
               ? cuda::rat_perturb<T>(x, slope, reinterpret_cast<const bool*>(&*correct), A(1),
                                      A(-1), box, b, n, result, nullptr)
           : op == "plane_distance"
               ? cuda::plane_distance<T>(x, slope, step, box, b, n, found, nullptr)
           : op == "probe_step" ? cuda::probe_step<T>(x, slope, step, box, b, n, A(6e-5), A(0.01),
                                                      found, found + b, nullptr)
           : op == "redirect_"
               ? cuda::redirect_<T>(x, slope, found, rays, classes, box, b, n, step, aim, result,
                                    direction, rays + 6 * b, nearest, classes, nullptr)
               : cudaErrorInvalidConfiguration;
}

std::string name_of(const void* function) {
    for (const cuda::KernelInfo& kernel : cuda::kernels()) {
        if (kernel.function == function) {
            return kernel.name;
        }
    }
    return "a kernel that is not listed";
}

std::string shown(const emulated::Launch& l) {
    std::ostringstream text;
    const auto work = [&](const char* of, const emulated::Work& w) {
        text << ", \"" << of << "\": {\"loaded\": " << w.loaded << ", \"copied\": " << w.copied
             << ", \"kept\": " << w.kept << ", \"stored\": " << w.stored
             << ", \"shuffles\": " << w.shuffles << ", \"steps\": " << w.steps << "}";
    };
    text << "{\"kernel\": \"" << name_of(l.kernel) << "\", \"blocks\": " << l.grid.x
         << ", \"threads\": " << l.block.x * l.block.y << ", \"cluster\": " << l.cluster
         << ", \"shared\": " << l.shared << ", \"barriers\": " << l.barriers
         << ", \"cluster_barriers\": " << l.cluster_barriers;
    work("all", l.all);
    work("most", l.most);
    text << "}";
    return text.str();
}

}  // namespace

int main() {
    emulated::settings.seed = 0;
    emulated::settings.only_ends = 1;
    std::vector<emulated::Launch> launches;
    emulated::launches = &launches;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string op, type;
        words >> op >> type;
        std::vector<index_t> sizes;
        for (index_t size = 0; words >> size;) {
            sizes.push_back(size);
        }
        const bool by_channel = line.find("by-channel") != std::string::npos;
        const bool last = line.find("channels-last") != std::string::npos;
        const auto launch = [&](auto example) {
            using T = decltype(example);
            return sizes.size() == 2 ? rows<T>(op, sizes[0], sizes[1])
                   : sizes.size() == 3
                       ? images<T>(op, sizes[0], sizes[1], sizes[2], by_channel, last)
                       : cudaErrorInvalidConfiguration;
        };
        const cudaError_t status = type == "float"      ? launch(float())
                                   : type == "double"   ? launch(double())
                                   : type == "bfloat16" ? launch(bfloat16())
                                   : type == "float16"  ? launch(float16())
                                                        : cudaErrorInvalidConfiguration;
        if (status != cudaSuccess) {
            std::cerr << line << ": " << cudaGetErrorString(status) << "\n";
            return 1;
        }
        for (std::size_t i = 0; i < launches.size(); ++i) {
            std::cout << (i == 0 ? "[" : ", ") << shown(launches[i]);
        }
        std::cout << "]\n";
        launches.clear();
    }
    return 0;
}
