// The walk that fgsm_step, perturb, rat_perturb and plane_distance share: runs of elements that lie
// in one sample, and how a run's elements find their channel, so that the loop over a run
// vectorises; and how the first three write their results.
#pragma once

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include <cstring>
#include <vector>

#include "../math/steps.h"

namespace rrfast::cpu::RRFAST_ISA {

// Channels-last: neighbours belong to different channels. Their parameters are laid out as the
// elements are, over enough whole pixels to make a run worth a loop.
template <class A>
class Pattern {
public:
    explicit Pattern(const Channels<A>& channels) {
        // Of an image so many that a stretch of results (below) lies in one run.
        const index_t pixels = channels.channels <= 4    ? 256
                               : channels.channels < 256 ? 256 / channels.channels
                                                         : 1;
        for (index_t pixel = 0; pixel < pixels; ++pixel) {
            for (index_t c = 0; c < channels.channels; ++c) {
                const Channel<A> channel = channels.at(c);
                scale_.push_back(channel.scale);
                lower_.push_back(channel.lower);
                upper_.push_back(channel.upper);
            }
        }
    }
    index_t length() const { return static_cast<index_t>(scale_.size()); }
    Channel<A> at(index_t i) const { return {scale_[i], lower_[i], upper_[i]}; }

private:
    std::vector<A> scale_, lower_, upper_;
};

// Calls body(over) once; over(begin, end, run) calls run(sample, first, last, channel) for the runs
// of [begin, end), which count over the whole batch; channel(i) is the channel of element first +
// i. The channel parameters are laid out only once, however often `over` is called.
template <class A, class Body>
RR_HD void with_runs(const Channels<A>& channels, index_t elements, const Body& body) {
    const auto walk = [&](index_t begin, index_t end, index_t longest, const auto& runs) {
        for (index_t at = begin; at < end;) {
            const index_t sample = at / elements;
            const index_t offset = at - sample * elements;
            const index_t in_sample = elements - offset;
            const index_t in_run = longest - offset % longest;
            const index_t left = in_run < in_sample ? in_run : in_sample;
            const index_t last = at + left < end ? at + left : end;
            runs(sample, offset, at, last);
            at = last;
        }
    };
    if (channels.uniform()) {
        const Channel<A> channel = channels.at(0);
        body([&](index_t begin, index_t end, const auto& run) {
            walk(begin, end, elements, [&](index_t sample, index_t, index_t first, index_t last) {
                run(sample, first, last, [channel](index_t) { return channel; });
            });
        });
    } else if (channels.inner > 1) {
        body([&](index_t begin, index_t end, const auto& run) {
            walk(begin, end, channels.inner,
                 [&](index_t sample, index_t offset, index_t first, index_t last) {
                     const Channel<A> channel =
                         channels.at(offset / channels.inner % channels.channels);
                     run(sample, first, last, [channel](index_t) { return channel; });
                 });
        });
    } else {
        const Pattern<A> pattern(channels);
        body([&](index_t begin, index_t end, const auto& run) {
            walk(begin, end, pattern.length(),
                 [&](index_t sample, index_t offset, index_t first, index_t last) {
                     const index_t phase = offset % pattern.length();
                     run(sample, first, last,
                         [&, phase](index_t i) { return pattern.at(phase + i); });
                 });
        });
    }
}

template <class A, class Run>
RR_HD void for_each_run(const Channels<A>& channels, index_t begin, index_t end, index_t elements,
                        const Run& run) {
    with_runs(channels, elements, [&](const auto& over) { over(begin, end, run); });
}

// The widest vector that one instruction stores past the caches: of narrower ones, stores take as
// long as the computation.
#if defined(__AVX512F__)
using Wide = __m512i;
RR_HD void store_past_caches(void* to, Wide value) {
    _mm512_stream_si512(static_cast<Wide*>(to), value);
}
#elif defined(__AVX__)
using Wide = __m256i;
RR_HD void store_past_caches(void* to, Wide value) {
    _mm256_stream_si256(static_cast<Wide*>(to), value);
}
#elif defined(__SSE2__)
using Wide = __m128i;
RR_HD void store_past_caches(void* to, Wide value) {
    _mm_stream_si128(static_cast<Wide*>(to), value);
}
#endif

// Elements that are computed in the first-level cache before they are streamed: few, so that the
// processor begins the next ones while it stores these.
constexpr index_t kStretch = 256;

// Results on their way past the caches: an ordinary store would first read the line that it
// overwrites. Stretches begin at multiples of kStretch elements, which are lines of the cache where
// `out` begins one.
template <class T>
class Stream {
public:
    explicit Stream(T* out) : out_(out) {}

    // The place of element `at`; those up to the end of its stretch are next to it.
    T* place(index_t at) { return stretch_ + at % kStretch; }

    // Writes elements [first, last) of one stretch.
    void flush(index_t first, index_t last) {
        const T* from = place(first);
        T* to = out_ + first;
        const T* const end = from + (last - first);
#ifdef __SSE2__
        constexpr index_t width = sizeof(Wide) / sizeof(T);
        while (from < end && reinterpret_cast<std::uintptr_t>(to) % sizeof(Wide) != 0) {
            *to++ = *from++;
        }
        for (; from + width <= end; from += width, to += width) {
            Wide vector;
            std::memcpy(&vector, from, sizeof(vector));
            store_past_caches(to, vector);
        }
#endif
        while (from < end) {
            *to++ = *from++;
        }
    }

private:
    T* out_;
    alignas(64) T stretch_[kStretch];
};

// Stores of `Stream` may be seen late: to be called before another thread is told of them.
inline void streamed() {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

template <class A, class Run, class... T>
RR_HD void stream_runs(const Channels<A>& channels, index_t begin, index_t end, index_t elements,
                       const Run& run, Stream<T>&&... streams) {
    index_t flushed = begin;
    for_each_run(channels, begin, end, elements,
                 [&](index_t sample, index_t first, index_t last, const auto& channel) {
                     for (index_t at = first; at < last;) {
                         const index_t next = (at / kStretch + 1) * kStretch;
                         const index_t stop = next < last ? next : last;
                         run(
                             sample, at, stop, [&](index_t i) { return channel(i + at - first); },
                             streams.place(at)...);
                         if (stop == next) {
                             (streams.flush(flushed, stop), ...);
                             flushed = stop;
                         }
                         at = stop;
                     }
                 });
    (streams.flush(flushed, end), ...);
    streamed();
}

// As for_each_run, for results `out`: run(sample, first, last, channel, to...) writes that of
// element first + i to to[i]. With `streams` they go past the caches.
template <class A, class Run, class... T>
RR_HD void write_runs(const Channels<A>& channels, index_t begin, index_t end, index_t elements,
                      bool streams, const Run& run, T*... out) {
    if (streams) {
        stream_runs(channels, begin, end, elements, run, Stream<T>(out)...);
    } else {
        for_each_run(channels, begin, end, elements,
                     [&](index_t sample, index_t first, index_t last, const auto& channel) {
                         run(sample, first, last, channel, (out + first)...);
                     });
    }
}

}  // namespace rrfast::cpu::RRFAST_ISA
