// The two best classes of a row as the threads of a GPU find them (csrc/kernels/row_reduce.cuh):
// each pushes its own in order, counts them, settles; then they combine. Against a sort. See
// test_in_order.py.
#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "top2.h"

using namespace rrfast;

template <class A>
Candidate<A> in_row(const Candidate<A, std::uint32_t>& own, int thread, int threads, int width) {
    if (own.index == kNoIndex<std::uint32_t>) {
        return no_candidate<A>();
    }
    const index_t vector = thread + static_cast<index_t>(own.index / width) * threads;
    return {own.value, vector * width + own.index % width};
}

template <class A>
bool agrees(const std::vector<A>& row, int threads, int width) {
    const int classes = static_cast<int>(row.size());
    auto top = empty_top2<A>();
    auto best = no_candidate<A>();
    for (int thread = 0; thread < threads; ++thread) {
        auto own = empty_top2<A, std::uint32_t>();
        auto own_best = no_candidate<A, std::uint32_t>();
        std::uint32_t count = 0;
        for (int k = thread * width; k < classes; k += threads * width) {
            for (int e = 0; e < width; ++e, ++count) {
                push(own, {row[k + e], count});
                push(own_best, {row[k + e], count});
            }
        }
        settle(own, count);
        settle(own_best, count);
        top = combine(top, Top2<A>{in_row(own.first, thread, threads, width),
                                   in_row(own.second, thread, threads, width)});
        const auto found = in_row(own_best, thread, threads, width);
        best = either(leads(found, best), found, best);
    }
    std::vector<Candidate<A>> sorted;
    for (int k = 0; k < classes; ++k) {
        sorted.push_back({row[k], k});
    }
    std::sort(sorted.begin(), sorted.end(),
              [](const auto& a, const auto& b) { return leads(a, b); });
    const index_t second = classes > 1 ? sorted[1].index : kNoIndex<index_t>;
    return top.first.index == sorted[0].index && best.index == sorted[0].index &&
           top.second.index == second;
}

template <class A>
int wrong(std::mt19937& draw) {
    const A values[] = {-infinity<A>(), infinity<A>(), nan<A>(), A(-0.0), A(0), A(1), A(2)};
    int count = 0;
    for (int trial = 0; trial < 50'000; ++trial) {
        const int width = draw() % 2 ? 1 : 4, threads = 1 + draw() % 6;
        std::vector<A> row(width * (1 + draw() % (24 / width)));
        // Few different values, so that ties are everywhere; from rows of -infinity to rows of all.
        const unsigned kinds = 1 + draw() % 7;
        for (A& value : row) {
            value = values[draw() % kinds];
        }
        count += !agrees(row, threads, width);
    }
    return count;
}

int main() {
    std::mt19937 draw(0);
    const int count = wrong<float>(draw) + wrong<double>(draw);
    std::printf("%d rows wrong\n", count);
    return count != 0;
}
