// Tensors of more than 2^31 and 2^32 elements, where an index of 32 bits goes astray. On a GPU they
// take some 20 to 170 GB, and those that do not fit are left out; the emulator backs with memory
// only what is used, and runs the first and the last blocks.
#include "huge.h"

#include "tensors.h"

namespace rrfast {
namespace {

constexpr index_t kBillion = index_t(1) << 30;

struct NoRoom {};

template <class V>
class Huge {
public:
    Huge(index_t count, index_t shift) {
        void* memory = nullptr;
        const cudaError_t status = cudaMalloc(&memory, (count + shift) * sizeof(V));
        if (status == cudaErrorMemoryAllocation) {
            cudaGetLastError();
            throw NoRoom();
        }
        expect_success(status, "cudaMalloc");
        expect_success(cudaMemset(memory, 0, (count + shift) * sizeof(V)), "cudaMemset");
        memory_ = static_cast<V*>(memory);
        first_ = memory_ + shift;
    }
    Huge(const Huge&) = delete;
    ~Huge() { cudaFree(memory_); }
    V* device() const { return first_; }
    void put(index_t at, V value) {
        expect_success(cudaMemcpy(first_ + at, &value, sizeof(V), cudaMemcpyHostToDevice), "put");
    }
    V get(index_t at) const {
        V value;
        expect_success(cudaMemcpy(&value, first_ + at, sizeof(V), cudaMemcpyDeviceToHost), "get");
        return value;
    }

private:
    V* memory_;
    V* first_;
};

// The first elements of the first sample and the last of the last: those in the middle are not run
// by an emulator that is told to leave them out.
template <class T>
std::string huge_images(index_t samples, index_t elements, bool by_channel, index_t shift) {
    const Huge<T> perturbed(samples * elements, shift);
    Huge<T> x(samples * elements, shift);
    Huge<std::int8_t> direction(samples * elements, 0);
    const Tensor<float> step({1, 2, 3, 4, 5, 6, 7, 8}, 0), scale({1, 2, 4}, 0);
    Channels<float> channels;
    if (by_channel) {
        channels.scale = scale.device();
        channels.scale_stride = 1;
        channels.channels = 3;
        channels.inner = elements / 3;
    }
    const index_t last = samples * elements - 1;
    for (const index_t at : {index_t(0), index_t(1), last - 1, last}) {
        x.put(at, narrow<T>::from(0.5f));
        direction.put(at, 1);
    }
    expect_success(cuda::perturb(x.device(), direction.device(), step.device(), channels, samples,
                                 elements, perturbed.device(), nullptr),
                   "launch");
    for (const index_t at : {index_t(0), index_t(1), last - 1, last}) {
        const float length = at > 1 ? step.host[samples - 1] : 1;
        const float unit = by_channel && at > 1 ? 4 : 1;
        expect(same_bits(perturbed.get(at), narrow<T>::from(0.5f + length * unit)),
               "perturbed[" + std::to_string(at) + "] is " + shown(perturbed.get(at)));
    }
    return std::to_string(samples) + " x " + std::to_string(elements);
}
template <class T>
std::string huge_rows(index_t samples, index_t classes, index_t shift) {
    Huge<T> h(samples * classes, shift);
    const Huge<T> seed(samples * classes, shift);
    const Huge<index_t> prediction(samples, 0), second(samples, 0);
    const Huge<float> margin(samples, 0), clear(samples, 0);
    const index_t last = samples - 1;
    for (const index_t b : {index_t(0), last}) {
        h.put(b * classes + classes - 1, narrow<T>::from(3));
        h.put(b * classes + 2, narrow<T>::from(2));
    }
    expect_success(cuda::direction_seed(h.device(), samples, classes, 0.0, prediction.device(),
                                        margin.device(), seed.device(), second.device(),
                                        clear.device(), nullptr),
                   "launch");
    for (const index_t b : {index_t(0), last}) {
        const std::string row = "row " + std::to_string(b) + ": ";
        expect(prediction.get(b) == classes - 1, row + "prediction");
        expect(second.get(b) == 2, row + "runner_up");
        expect(margin.get(b) == 1, row + "margin");
        expect(clear.get(b) == 1, row + "clear");
        expect(widen(seed.get(b * classes + 2)) == 1, row + "seed of the runner-up");
        expect(widen(seed.get(b * classes + classes - 1)) == -1, row + "seed of the prediction");
    }
    return std::to_string(samples) + " x " + std::to_string(classes);
}

}  // namespace

bool run_huge() {
#ifdef RRFAST_EMULATED
    emulated::settings.only_ends = 8;
#endif
    const std::pair<const char*, std::string (*)()> cases[] = {
        {"perturb float16 > 2^32",
         [] { return huge_images<float16>(3, 2 * kBillion + 8, false, 0); }},
        {"perturb float16 odd", [] { return huge_images<float16>(2, 2 * kBillion + 9, false, 0); }},
        {"perturb float16 channels",
         [] { return huge_images<float16>(2, (5 * kBillion) / 24 * 24, true, 0); }},
        {"perturb float32 unaligned", [] { return huge_images<float>(5, kBillion + 4, false, 1); }},
        {"direction_seed 1000", [] { return huge_rows<float>(3 * kBillion / 1000, 1000, 0); }},
        {"direction_seed 1001", [] { return huge_rows<float>(5 * kBillion / 1001, 1001, 0); }},
        {"direction_seed 50000",
         [] { return huge_rows<bfloat16>(5 * kBillion / 50'000, 50'000, 1); }},
        {"direction_seed 4", [] { return huge_rows<float>(3 * kBillion, 4, 0); }},
        {"direction_seed 5", [] { return huge_rows<bfloat16>(3 * kBillion / 2, 5, 1); }},
    };
    bool all = true;
    for (const auto& [name, run] : cases) {
        complaint.clear();
        try {
            const std::string shape = run();
            const bool good = passed(std::string(name) + ", " + shape);
            std::printf("%s %s, %s\n", good ? "passed" : "failed", name, shape.c_str());
            all = all && good;
        } catch (const NoRoom&) {
            std::printf("left out %s: the device has not the memory\n", name);
        }
    }
    return all;
}

}  // namespace rrfast
