"""How long a kernel should take on a GPU, and what should bound it, before it has run on one.

A launch is blocks, which an SM holds so many of as registers, threads and shared memory allow; what
does not fit waits, so that the blocks come in waves. A block asks memory for bytes, in so many
turns as a thread has bytes in flight for; shuffles and barriers follow; then it stores. While a
block reduces, it has nothing in flight. So a launch takes

    launch + chain + the longest of { memory, cache, instructions, (waves - 1) chain }

where `chain` is what one block takes alone: a turn is a latency. The last term is Little's law: an
SM that has bytes under way for a latency of them moves them, and no more. `kernel_facts` counts the
bytes, turns, shuffles and barriers; what is guessed here stands in capitals, and is the first to be
put right by a measurement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.contest import SMALL_BYTES, Images, Logits
from benchmarks.kernel_facts import Code, Facts, Launch
from benchmarks.roofline import CLOCK, GPU, SMS

#: Of one SM of compute capability 9.0. Registers are given to a warp in groups.
REGISTERS, GROUP, WARPS, BLOCKS = 65_536, 256, 64, 32
SHARED, SYSTEM_SHARED = 228 << 10, 1 << 10  # bytes of an SM; of them the system's for each block
#: Seconds until an idle memory, or the second-level cache, has answered.
MEMORY_LATENCY, CACHE_LATENCY = 600e-9, 300e-9
#: Bytes per second of the second-level cache, and how many it holds.
CACHE_BANDWIDTH, CACHE = 5.5e12, 50e6
#: Seconds of a shuffle with what combines two values, and of barriers: of a block, of a cluster.
STEP, BARRIER, CLUSTER_BARRIER = 60 / CLOCK, 40 / CLOCK, 400 / CLOCK
#: Issue slots of a thread for a shuffle (a quarter of the rate), for what combines two values, and
#: for all that is neither in a loop nor in a reduction.
SHUFFLE_SLOTS, STEP_SLOTS, OTHER = 4, 20, 150
#: Of the instructions of a kernel's loops, one after the other, how many run at T = 1 and finite
#: numbers, by hand: a division by T is left out, and what divides rare numbers. Of single elements
#: the compiler makes a loop for T = 1, the last but one. All run, elsewhere.
TAKEN = {
    "direction_seed": {3: (1, 0.4, 0.85), 4: (1, 0, 1, 0.85), 5: (1, 1, 0, 1, 0.85)},
    "direction_seed_long": {2: (0.9, 0.35)},
    "loss_seed": {3: (1, 1, 0.85), 4: (1, 1, 1, 0.85)},
    "loss_seed_long": {3: (1, 1, 0.93)},
}
#: Kernels with a loop for values that all share, and another for values by channel.
ALTERNATIVES = ("fgsm_step", "perturb", "rat_perturb")
#: Those that take elements one by one where every element has a channel of its own, and how often
#: they do.
ONE_BY_ONE = {"plane_distance": 1, "redirect": 2}
#: Of these loops over vectors one runs, with a box or without.
ONE_OF_ITS_LOOPS = "plane_distance"
#: Ops whose last launch reads what the one before has read and written.
READ_AGAIN = ("redirect_",)


class Prediction(NamedTuple):
    """Of all launches of an op, one after the other; what is no time is of the longest."""

    seconds: float
    bound: str  #: what takes longest
    in_flight: float  #: bytes that an SM has asked of memory, at most
    waves: int


@dataclass(frozen=True)
class Timing:
    """One launch on one GPU."""

    launch: Launch
    code: Code
    gpu: GPU
    traffic: float  #: bytes that must move at least
    loops: float  #: issue slots of all elements, as often as they are looked at
    by_channel: bool  #: whether channels have values of their own
    cached: bool  #: whether the cache has what is read

    @property
    def resident(self) -> int:
        """Blocks that an SM holds."""
        by_shared = SHARED // (self.launch.shared + SYSTEM_SHARED)
        warps = resident_warps(self.code.registers, self.launch.threads)
        return min(warps * 32 // self.launch.threads, by_shared)

    @property
    def clusters(self) -> float:
        return self.launch.blocks / self.launch.cluster

    @property
    def at_once(self) -> float:
        """Blocks of an SM that are under way, on average."""
        return min(self.resident, self.launch.blocks / SMS)

    @property
    def waves(self) -> int:
        return math.ceil(self.launch.blocks / (SMS * self.resident))

    @property
    def asked(self) -> int:
        """Bytes that a thread has in flight. Values by channel come without loads ahead."""
        loops = [flying for flying, _ in self.code.loops if flying]
        if not loops:
            return self.code.in_flight
        return (min if self.by_channel else max)(loops)

    @property
    def turns(self) -> int:
        """How often a thread waits for memory."""
        loaded, copied = self.launch.most.loaded, self.launch.most.copied
        return (math.ceil(loaded / self.asked) if loaded else 0) + (copied > 0)

    @property
    def in_flight(self) -> float:
        """Bytes that an SM has under way."""
        every, most = self.launch.all, self.launch.most
        part = min(self.asked / most.loaded, 1) if most.loaded else 0
        return self.at_once * (every.copied + every.loaded * part) / self.launch.cluster

    @property
    def moved(self) -> float:
        """Bytes between the SMs and the second-level cache."""
        every = self.launch.all
        return (every.loaded + every.copied + every.stored) * self.clusters

    @property
    def from_memory(self) -> float:
        """Bytes. What is read again comes from the cache, if it holds the rows under way."""
        again = self.moved - self.traffic
        under_way = self.traffic * SMS * self.at_once / self.launch.blocks
        return self.traffic + (again if again > 0 and under_way > CACHE else 0)

    @property
    def chain(self) -> float:
        """Seconds of a block that has the GPU for itself."""
        reducing = self.launch.most.steps * STEP + self.launch.barriers * BARRIER
        reducing += self.launch.cluster_barriers * CLUSTER_BARRIER
        latency = CACHE_LATENCY if self.cached else MEMORY_LATENCY
        return self.turns * latency + reducing

    @property
    def slots(self) -> float:
        """Instructions of all threads, those at a part of the rate several times."""
        most, threads = self.launch.most, self.launch.threads * self.launch.blocks
        own = most.shuffles * SHUFFLE_SLOTS + most.steps * STEP_SLOTS
        return self.loops + threads * (own + OTHER)

    @property
    def rates(self) -> dict[str, float]:
        """Seconds that all of it takes at a rate."""
        return {
            "memory": 0 if self.cached else self.from_memory / self.gpu.bandwidth,
            "cache": self.moved / CACHE_BANDWIDTH,
            "instructions": self.slots / (self.gpu.instructions * min(self.launch.blocks / SMS, 1)),
        }

    @property
    def prediction(self) -> Prediction:
        bounds = {**self.rates, "latency": self.waves * self.chain, "launch": self.gpu.launch}
        further = max(*self.rates.values(), (self.waves - 1) * self.chain)
        return Prediction(
            self.gpu.launch + self.chain + further,
            max(bounds, key=lambda name: bounds[name]),
            self.in_flight,
            self.waves,
        )


def resident_warps(registers: int, threads: int) -> int:
    """How many warps of such a kernel an SM holds, by its registers."""
    warps = threads // 32
    of_block = warps * (-(-registers * 32 // GROUP) * GROUP)
    return min(REGISTERS // of_block, WARPS // warps, BLOCKS) * warps


def predicted(facts: Facts, op: str, case: Images | Logits, traffic: float, gpu: GPU) -> Prediction:
    """Of an op that moves `traffic` bytes at least."""
    by_channel = isinstance(case, Images) and case.normalised
    launches, found, left = facts.launches[f"{op} {case}"], [], traffic
    for launch in launches:
        code, every = facts.kernels[launch.kernel], launch.all
        clusters = launch.blocks / launch.cluster
        read = (every.loaded + every.copied) * clusters
        # The last one moves what the others do not: they read a tensor, and write next to nothing.
        last = read + every.stored * clusters if op in READ_AGAIN else left
        least = last if launch is launches[-1] else read
        left -= least
        name, elements = launch.kernel.split()[0], float(math.prod(case.shape))
        if name == "rat_correct":  # its rows of float32 logits are none of the case
            elements = read / 4
        looks = looks_of(launch) if name == "plane_distance" else 1
        slots = elements * (looks * cost_of(name, code, by_channel) + code.copying)
        cached = traffic < SMALL_BYTES
        timing = Timing(launch, code, gpu, least, slots, by_channel, cached)
        found.append(timing.prediction)
    longest = max(found, key=lambda prediction: prediction.seconds)
    return longest._replace(seconds=sum(prediction.seconds for prediction in found))


def looks_of(launch: Launch) -> float:
    """How often the threads of a row reduced, each time in steps that halve their number."""
    return launch.most.steps / math.log2(launch.threads)


def cost_of(name: str, code: Code, by_channel: bool) -> float:
    """Issue slots of an element, besides those that copy it."""
    loops = [slots for _, slots in code.loops]
    if name in ONE_BY_ONE and by_channel:
        return ONE_BY_ONE[name] * code.single
    if name == ONE_OF_ITS_LOOPS:
        return min(loops)
    if name in ALTERNATIVES:
        return (max if by_channel else min)(loops)
    taken = TAKEN[name][len(loops)] if name in TAKEN else (1,) * len(loops)
    return sum(slots * part for slots, part in zip(loops, taken, strict=True))
