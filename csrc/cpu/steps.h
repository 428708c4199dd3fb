// The walk that fgsm_step, perturb, rat_perturb and plane_distance share: runs of elements that lie
// in one sample, and how a run's elements find their channel, so that the loop over a run
// vectorises.
#pragma once

#include <vector>

#include "../kernels/math.h"

namespace rrfast::cpu::RRFAST_ISA {

// Channels-last: neighbours belong to different channels. Their parameters are laid out as the
// elements are, over enough whole pixels to make a run worth a loop.
template <class A>
class Pattern {
public:
    explicit Pattern(const Channels<A>& channels) {
        const index_t pixels = channels.channels < 256 ? 256 / channels.channels : 1;
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

}  // namespace rrfast::cpu::RRFAST_ISA
