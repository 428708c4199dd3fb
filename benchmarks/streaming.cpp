// What a large result costs beside its arithmetic: page faults, the read before an ordinary store,
// the way back from memory to who reads it next. See streaming.md for what came of it.
//
//     g++ -std=c++17 -O3 -fno-trapping-math -march=x86-64-v3 benchmarks/streaming.cpp -o
//     /tmp/streaming && /tmp/streaming
#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr std::size_t kStretch = 256;

float moved(float x, std::int8_t direction) {
    return x + 0.1f * (direction == -128 ? __builtin_nanf("") : static_cast<float>(direction));
}

__attribute__((noinline)) void ordinary(const float* __restrict__ x,
                                        const std::int8_t* __restrict__ direction,
                                        float* __restrict__ out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = moved(x[i], direction[i]);
    }
}

__attribute__((noinline)) void streamed(const float* x, const std::int8_t* direction, float* out,
                                        std::size_t count) {
    alignas(64) float stretch[kStretch];
    for (std::size_t at = 0; at < count; at += kStretch) {
        for (std::size_t i = 0; i < kStretch; ++i) {
            stretch[i] = moved(x[at + i], direction[at + i]);
        }
        for (std::size_t i = 0; i < kStretch; i += 4) {
            _mm_stream_ps(out + at + i, _mm_load_ps(stretch + i));
        }
    }
    _mm_sfence();
}

__attribute__((noinline)) float sum(const float* x, std::size_t count) {
    float lanes[16] = {};
    for (std::size_t i = 0; i < count; i += 16) {
        for (std::size_t j = 0; j < 16; ++j) {
            lanes[j] += x[i + j];
        }
    }
    float total = 0;
    for (const float lane : lanes) {
        total += lane;
    }
    return total;
}

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace

int main() {
    volatile float sink = 0;
    std::puts("MB ordinary streamed +read +read new streamed huge streamed, ms");
    for (const std::size_t megabytes : {2, 4, 8, 14, 24, 38, 154}) {
        const std::size_t count = megabytes * 1000000 / 4 / kStretch * kStretch;
        const std::size_t bytes = count * sizeof(float);
        std::vector<std::int8_t> direction(count, 1);
        auto* x = static_cast<float*>(std::aligned_alloc(64, bytes));
        auto* there = static_cast<float*>(std::aligned_alloc(64, bytes));
        std::fill_n(x, count, 0.5f);
        std::fill_n(there, count, 0.0f);
        std::array<std::vector<double>, 8> seconds;
        for (int round = 0; round < 15; ++round) {
            for (std::size_t way = 0; way < seconds.size(); ++way) {
                const double begin = now();
                float* out = there;
                if (way >= 4) {
                    out = static_cast<float*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
                }
                if (way >= 6) {
                    madvise(out, bytes, MADV_HUGEPAGE);
                }
                (way % 2 ? streamed : ordinary)(x, direction.data(), out, count);
                if (way == 2 || way == 3) {
                    sink = sink + sum(out, count);
                }
                if (way >= 4) {
                    munmap(out, bytes);
                }
                seconds[way].push_back(now() - begin);
            }
        }
        std::printf("%zu", megabytes);
        for (auto& of_way : seconds) {
            std::sort(of_way.begin(), of_way.end());
            std::printf(" %.2f", 1e3 * of_way[of_way.size() / 2]);
        }
        std::puts("");
        std::free(x);
        std::free(there);
    }
}
