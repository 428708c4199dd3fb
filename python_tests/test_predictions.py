"""benchmarks/predictions.py: how long a kernel should take, and what GPU.md says of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from benchmarks import kernel_facts, op_notes, predictions
from benchmarks.contest import Images, Logits
from benchmarks.kernel_facts import Code, Facts, Launch, Work
from benchmarks.predictions import BARRIER, MEMORY_LATENCY, SMS, STEP, Timing
from benchmarks.roofline import GPU

SIMPLE = GPU("simple", bandwidth=1e12, flops={}, instructions=1e14, launch=2e-6)
#: 512 threads that load 64 bytes each, reduce in 14 steps of four words with two barriers.
WORK = Work(loaded=64, copied=0, kept=0, stored=0, shuffles=56, steps=14)
LAUNCH = Launch(
    kernel="search_step float32 4",
    blocks=4 * SMS,
    threads=512,
    cluster=1,
    shared=256,
    barriers=2,
    cluster_barriers=0,
    all=Work(*(512 * amount for amount in WORK)),
    most=WORK,
)
CODE = Code(registers=64, in_flight=64, copying=0, single=0, loops=((64, 20.0),))
TIMING = Timing(
    LAUNCH,
    CODE,
    SIMPLE,
    traffic=64 * 512 * 4 * SMS,
    loops=20 * 16 * 512 * 4 * SMS,
    by_channel=False,
    cached=False,
)
CHAIN = MEMORY_LATENCY + 14 * STEP + 2 * BARRIER


def test_a_launch_by_hand() -> None:
    """Two blocks of 512 threads with 64 registers fill an SM: four for each are two waves."""
    assert (TIMING.resident, TIMING.waves) == (2, 2)
    assert TIMING.in_flight == 2 * 512 * 64
    assert TIMING.chain == pytest.approx(CHAIN, rel=1e-12)
    slots = 16 * 20 + 56 * 4 + 14 * 20 + predictions.OTHER
    expected = {
        "memory": TIMING.traffic / 1e12,
        "cache": TIMING.traffic / predictions.CACHE_BANDWIDTH,
        "instructions": slots * 512 * 4 * SMS / 1e14,
    }
    assert TIMING.rates == pytest.approx(expected, rel=1e-12)
    seconds, bound, *_ = TIMING.prediction
    assert bound == "memory"
    assert seconds == pytest.approx(2e-6 + CHAIN + TIMING.traffic / 1e12, rel=1e-12)


def test_what_a_thread_has_in_flight_decides_how_often_it_waits() -> None:
    """Little's law: half the bytes under way, twice the time where latency bounds it."""
    far = replace(SIMPLE, bandwidth=1e15, instructions=1e17)
    few = replace(TIMING, gpu=far, code=CODE._replace(loops=((16, 20.0),)))
    assert few.turns == 4
    assert few.in_flight == 2 * 512 * 16
    assert few.chain == pytest.approx(CHAIN + 3 * MEMORY_LATENCY, rel=1e-12)
    assert few.prediction.bound == "latency"
    many = replace(few, launch=LAUNCH._replace(blocks=100 * SMS))
    assert many.prediction.seconds == pytest.approx(2e-6 + 50 * few.chain, rel=1e-12)
    short = replace(few, launch=LAUNCH._replace(blocks=SMS))
    assert short.prediction.bound == "latency"
    assert replace(short, cached=True).prediction.bound == "launch"


def test_fewer_blocks_than_processors_have_only_their_instructions() -> None:
    few = replace(TIMING, launch=LAUNCH._replace(blocks=SMS // 2), loops=0)
    every = replace(few, launch=LAUNCH._replace(blocks=SMS))
    assert few.rates["instructions"] == pytest.approx(every.rates["instructions"], rel=1e-12)


def test_memory_of_a_block_limits_how_many_there_are() -> None:
    hungry = replace(TIMING, launch=LAUNCH._replace(shared=100 << 10))
    assert hungry.resident == 2
    assert replace(TIMING, launch=LAUNCH._replace(shared=150 << 10)).resident == 1


def test_what_goes_past_the_registers_is_one_wait() -> None:
    kept = WORK._replace(loaded=0, copied=4096)
    launch = LAUNCH._replace(most=kept, all=Work(*(512 * amount for amount in kept)))
    timing = replace(TIMING, launch=launch)
    assert timing.turns == 1
    assert timing.in_flight == 2 * 512 * 4096


def test_values_by_channel_have_the_slower_loop() -> None:
    code = CODE._replace(copying=2.0, loops=((16, 70.0), (64, 20.0)))
    plain = replace(TIMING, code=code)
    assert (plain.asked, replace(plain, by_channel=True).asked) == (64, 16)
    cost_of = predictions.cost_of
    assert cost_of("perturb", code, False) == 20.0
    assert cost_of("perturb", code, True) == 70.0
    assert cost_of("search_step", code, False) == 90.0  # one after the other
    singly = code._replace(single=99.0)
    assert cost_of("plane_distance", singly, False) == 20.0
    assert cost_of("plane_distance", singly, True) == 99.0


def test_launches_of_an_op_add_up_and_share_its_traffic() -> None:
    """probe_step: a look at the normal, which is copied once, and one at x."""
    case, far = Images((SMS, 3, 224, 224)), replace(SIMPLE, instructions=1e20)
    size = 4 * 3 * 224 * 224
    copied = WORK._replace(loaded=0, copied=size // 512, steps=9)
    plane = LAUNCH._replace(
        kernel="plane_distance float32 4",
        blocks=SMS,
        all=Work(*(512 * amount for amount in copied)),
        most=copied,
    )
    read = copied._replace(loaded=size // 512, copied=0)
    probe = plane._replace(
        kernel="probe_step float32 4", all=Work(*(512 * amount for amount in read)), most=read
    )
    codes = {plane.kernel: CODE._replace(copying=5.0), probe.kernel: CODE}
    facts = Facts("", codes, {f"probe_step {case}": (plane, probe)}, {}, "")
    moved = 2 * SMS * size
    found = predictions.predicted(facts, "probe_step", case, moved, far)
    each = moved / 2 / far.bandwidth
    chains = (1 + math.ceil(size / 512 / 64)) * MEMORY_LATENCY + 2 * (9 * STEP + 2 * BARRIER)
    assert found.seconds == pytest.approx(2 * (far.launch + each) + chains, rel=1e-9)
    assert found.in_flight == 512 * 64  # of the second, which takes longer
    slow = replace(SIMPLE, bandwidth=1e20, instructions=1e12)
    slots = math.prod(case.shape) * (20.0 + 5.0) + math.prod(case.shape) * 20.0
    own = 512 * SMS * (56 * predictions.SHUFFLE_SLOTS + 9 * predictions.STEP_SLOTS)
    own += 512 * SMS * predictions.OTHER
    found = predictions.predicted(facts, "probe_step", case, moved, slow)
    expected = 2 * slow.launch + chains + (slots + 2 * own) / slow.instructions
    assert found.seconds == pytest.approx(expected, rel=1e-9)


def test_what_is_read_again_comes_from_the_cache_if_it_holds_the_rows_under_way() -> None:
    """Half of what passes the cache need not."""
    twice = replace(TIMING, traffic=TIMING.traffic / 2)
    assert twice.moved == TIMING.traffic
    assert twice.from_memory == TIMING.traffic / 2
    kept = LAUNCH._replace(all=Work(*(10_000 * amount for amount in LAUNCH.all)))
    large = replace(twice, launch=kept, traffic=twice.traffic * 10_000)
    assert large.traffic / 2 > predictions.CACHE
    assert large.from_memory == large.moved == 2 * large.traffic
    cached = replace(TIMING, cached=True)
    assert cached.rates["memory"] == 0
    assert cached.chain == pytest.approx(CHAIN - MEMORY_LATENCY + predictions.CACHE_LATENCY)


@pytest.mark.parametrize(
    ("registers", "threads", "warps"),
    [
        (32, 256, 64),
        (33, 256, 48),
        (40, 256, 48),
        (41, 256, 40),
        (64, 512, 32),
        (65, 512, 16),
        (16, 32, 32),
    ],
)
def test_occupancy(registers: int, threads: int, warps: int) -> None:
    """As CUDA's occupancy calculator has it, for an SM of 65,536 registers and 64 warps."""
    assert predictions.resident_warps(registers, threads) == warps


# ------------------------------------------------------------------------------- what is committed


def test_the_facts_are_those_of_these_kernels() -> None:
    assert kernel_facts.read().sources == kernel_facts.sources(), (
        "python -m benchmarks.kernel_facts; python -m benchmarks.gpu_notes"
    )


def test_the_facts_have_every_case() -> None:
    facts = kernel_facts.read()
    cases = {f"{op} {case}" for op, cases in kernel_facts.CASES.items() for case in cases}
    assert cases == facts.launches.keys()
    for launches in facts.launches.values():
        assert all(launch.kernel in facts.kernels for launch in launches)
    for op in ("rat_perturb", "probe_step", "redirect_"):
        assert len(facts.launches[f"{op} {Images((128, 3, 32, 32))}"]) == 2


def test_every_byte_that_must_move_does() -> None:
    """The traffic that the launches have is at least that of the op: counted on two ways."""
    facts = kernel_facts.read()
    for op, cases in kernel_facts.CASES.items():
        for case in cases:
            whole = sum(
                launch.blocks / launch.cluster * (launch.all.loaded + launch.all.copied)
                for launch in facts.launches[f"{op} {case}"]
            )
            two = ("fgsm_step", "rat_perturb", "plane_distance", "probe_step", "linear_radius")
            tensors = dict.fromkeys(two, 2)
            size = torch.Size(case.shape).numel() * case.dtype.itemsize
            assert whole >= 0.999 * tensors.get(op, 1) * size, (op, str(case))


def test_a_prediction_is_no_faster_than_its_floor() -> None:
    facts = kernel_facts.read()
    for gpu in op_notes.GPUS:
        for case in (Logits((16_384, 1000)), Logits((128, 10))):
            moved = op_notes.traffic("search_step_", case)
            found = predictions.predicted(facts, "search_step_", case, moved, gpu)
            assert found.seconds > max(moved / gpu.bandwidth, gpu.launch)
