// How to pack a direction: a byte per element against two bits. Times `perturb` with each on one
// and two threads; see direction_packing.md for what came of it. Built as csrc/cpu is:
//
//     flags="-std=c++17 -O3 -ffp-contract=off -fno-trapping-math -fno-math-errno -march=x86-64-v3
//     -pthread" g++ $flags benchmarks/direction_packing.cpp -o /tmp/direction_packing &&
//     /tmp/direction_packing
//
// int8 is csrc/cpu/perturb.h as it is. Two bits hold 0, +1, -1 and NaN as 0, 1, 2 and 3, four
// elements to a byte, in two orders. "bits": neighbours share a byte, the natural order, and what a
// GPU thread that moves 16 bytes would want. "planes": a group of 128 elements shares 32 bytes,
// element i in bits 2 (i / 32) of byte i % 32; the order that leaves a CPU nothing to shuffle.
#define RRFAST_ISA benchmark
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "../csrc/cpu/perturb.h"

namespace rrfast::cpu::RRFAST_ISA {

constexpr index_t kPlane = 32;
constexpr index_t kGroup = 4 * kPlane;
constexpr int kRounds = 15;

std::uint8_t code(std::int8_t direction) {
    return direction == kNanDirection ? 3 : direction < 0 ? 2 : direction;
}

template <class A>
RR_HD A unpack_code(int code) {
    const A sign = static_cast<A>((code & 1) - (code >> 1));
    return code == 3 ? nan<A>() : sign;
}

// Elements [begin, end) of one sample; both are multiples of kGroup.
template <class T>
void perturb_bits(const T* __restrict__ x, const std::uint8_t* __restrict__ packed,
                  accumulate_t<T> length, index_t begin, index_t end, T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    const Channel<A> channel = Channels<A>{}.at(0);
    for (index_t i = begin; i < end; i += 4) {
        const int byte = packed[i / 4];
        for (int e = 0; e < 4; ++e) {
            perturbed[i + e] = narrow<T>::from(
                moved(widen(x[i + e]), length, unpack_code<A>(byte >> 2 * e & 3), channel));
        }
    }
}

template <class T>
void perturb_planes(const T* __restrict__ x, const std::uint8_t* __restrict__ packed,
                    accumulate_t<T> length, index_t begin, index_t end, T* __restrict__ perturbed) {
    using A = accumulate_t<T>;
    const Channel<A> channel = Channels<A>{}.at(0);
    for (index_t first = begin; first < end; first += kPlane) {
        const std::uint8_t* bytes = packed + first / kGroup * kPlane;
        const int shift = static_cast<int>(first % kGroup / kPlane) * 2;
        for (index_t i = 0; i < kPlane; ++i) {
            const A sign = unpack_code<A>(bytes[i] >> shift & 3);
            perturbed[first + i] =
                narrow<T>::from(moved(widen(x[first + i]), length, sign, channel));
        }
    }
}

// The same pass without a direction: what is left is what directions cost.
template <class T>
void add(const T* __restrict__ x, accumulate_t<T> length, index_t begin, index_t end,
         T* __restrict__ perturbed) {
    for (index_t i = begin; i < end; ++i) {
        perturbed[i] = narrow<T>::from(widen(x[i]) + length);
    }
}

// Seconds of work(begin, end) over all elements, shared by threads that are there already when the
// clock starts.
double seconds(int threads, index_t elements, int repetitions,
               const std::function<void(index_t, index_t)>& work) {
    std::atomic<int> ready{0}, done{0};
    std::atomic<bool> go{false};
    const auto run = [&](index_t thread) {
        for (int r = 0; r < repetitions; ++r) {
            const index_t share = elements / threads / kGroup * kGroup;
            work(thread * share, thread == threads - 1 ? elements : (thread + 1) * share);
        }
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) {
        others.emplace_back([&, thread] {
            ++ready;
            while (!go) {
            }
            run(thread);
            ++done;
        });
    }
    while (ready < threads - 1) {
    }
    const auto start = std::chrono::steady_clock::now();
    go = true;
    run(0);
    while (done < threads - 1) {
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    for (auto& other : others) {
        other.join();
    }
    return elapsed.count() / repetitions;
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
}

template <class T>
void compare(const char* type, index_t elements, int threads) {
    using A = accumulate_t<T>;
    std::mt19937 random(0);
    std::vector<T> x(elements), out(elements);
    std::vector<std::int8_t> direction(elements);
    std::vector<std::uint8_t> bits(elements / 4), planes(elements / 4);
    for (index_t i = 0; i < elements; ++i) {
        x[i] = narrow<T>::from(static_cast<A>(random() % 1000) / 1000);
        direction[i] = random() % 1000 == 0 ? 0 : random() % 2 ? 1 : -1;
        bits[i / 4] |= code(direction[i]) << 2 * (i % 4);
        planes[i / kGroup * kPlane + i % kPlane] |= code(direction[i]) << 2 * (i % kGroup / kPlane);
    }
    const A step = 0.01f;
    const std::function<void(index_t, index_t)> contenders[] = {
        [&](index_t begin, index_t end) {
            perturb(x.data(), direction.data(), &step, Channels<A>{}, begin, end, elements, false,
                    out.data());
        },
        [&](index_t begin, index_t end) {
            perturb_bits(x.data(), bits.data(), step, begin, end, out.data());
        },
        [&](index_t begin, index_t end) {
            perturb_planes(x.data(), planes.data(), step, begin, end, out.data());
        },
        [&](index_t begin, index_t end) { add(x.data(), step, begin, end, out.data()); },
    };
    const int repetitions = static_cast<int>(std::max<index_t>(1, (index_t{1} << 24) / elements));

    std::vector<T> expected;
    for (const auto& work : contenders) {  // also warms up
        seconds(threads, elements, 1, work);
        expected = expected.empty() ? out : expected;
        if (&work != &contenders[3] &&
            std::memcmp(out.data(), expected.data(), elements * sizeof(T)) != 0) {
            std::puts("The packings do not give the same result.");
            std::exit(1);
        }
    }
    std::vector<double> times[4], gains[2];
    for (int round = 0; round < kRounds;
         ++round) {  // in turns, so that a slow moment of the machine is everybody's
        for (int c = 0; c < 4; ++c) {
            times[c].push_back(seconds(threads, elements, repetitions, contenders[c]));
        }
        gains[0].push_back(times[0].back() / times[1].back());
        gains[1].push_back(times[0].back() / times[2].back());
    }
    std::printf("| %s | %.3g | %d |", type, elements * sizeof(T) / 1e6, threads);
    for (const auto& of_contender : times) {
        std::printf(" %.3f |", median(of_contender) / elements * 1e9);
    }
    std::printf(" %.2f | %.2f |\n", median(gains[0]), median(gains[1]));
}

}  // namespace rrfast::cpu::RRFAST_ISA

int main() {
    using namespace rrfast::cpu::RRFAST_ISA;
    std::puts(
        "| type | MB of x | threads | int8 | bits | planes | none | int8 ÷ bits | int8 ÷ planes |");
    std::puts("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    // In a core's own cache, in the one it shares, far out of either.
    for (const rrfast::index_t elements :
         {rrfast::index_t{1} << 14, rrfast::index_t{1} << 20, rrfast::index_t{1} << 25}) {
        for (const int threads : {1, 2}) {
            compare<float>("float32", elements, threads);
            compare<rrfast::bfloat16>("bfloat16", elements, threads);
        }
    }
}
