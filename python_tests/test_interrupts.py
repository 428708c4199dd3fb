"""Whatever is raised, and wherever: the model is restored at once, and nothing is kept."""

from __future__ import annotations

import ctypes
import dis
import functools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rrfast
from rrfast.engine import Engine, frozen

PACKAGE = str(Path(rrfast.__file__).parent)
#: More for a long run.
INTERRUPTS = int(os.environ.get("RRFAST_INTERRUPTS", "2000"))
#: Seconds after which one is sent again: long beside a call, on a busy machine too.
AGAIN = 2.0


def perceptron() -> nn.Module:
    layers = nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 5)
    return nn.Sequential(*layers)


def deep() -> nn.Module:
    def block() -> tuple[nn.Module, ...]:
        return nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU()

    blocks = (layer for _ in range(15) for layer in block())
    return nn.Sequential(nn.Unflatten(1, (4, 5)), *blocks, nn.Flatten(), nn.Linear(20, 5))


class Unused(nn.Module):
    """With 150 layers that take no part."""

    def __init__(self) -> None:
        super().__init__()
        self.used = perceptron()
        self.unused = nn.ModuleList(nn.Linear(1, 1) for _ in range(150))

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Keeps(nn.Linear):
    """With its own `train`, which sets other flags than requested."""

    def train(self, mode: bool = True) -> Keeps:
        super().train(mode)
        self.kept = None if mode else self.weight.detach().clone()
        return self


def own_train() -> nn.Module:
    return nn.Sequential(perceptron(), nn.ReLU(), Keeps(5, 5))


def mixed(make: Callable[[], nn.Module]) -> nn.Module:
    """In training mode except some modules, with gradients except some parameters."""
    torch.manual_seed(0)
    model = make().train()
    for module in list(model.modules())[2::5]:
        module.training = False
    for parameter in list(model.parameters())[1::4]:
        parameter.requires_grad_(False)
    return model


def flags(model: nn.Module) -> list[Any]:
    return [
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [sorted(vars(module)) for module in model.modules()],
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        len(frozen._held),
    ]


@contextmanager
def interrupts() -> Iterator[random.Random]:
    """SIGALRM raises what Ctrl-C raises."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield random.Random(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("make", [perceptron, deep, Unused])
def test_random_interrupts_leave_no_trace(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them in a loop of radii, half in one of little but entering and leaving."""
    model, x = mixed(make), torch.rand(4, 20)

    def radius() -> None:
        rrfast.radius(model, x)

    def entering() -> None:
        with Engine(model):
            pass

    # What a signal raises in a finalizer, Python hands to this hook and drops; it is sent again, so
    # that the loop ends. None may be lost in another way, nor in what is rrfast's.
    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    radius()
    before = flags(model)
    interrupted = changed = late = 0
    with interrupts() as generator:
        for number in range(INTERRUPTS // 3 + 1):
            call = entering if number % 2 else radius
            try:
                signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-4, 2e-3), AGAIN)
                began = time.monotonic()
                while True:
                    call()
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
                interrupted += 1
                late += time.monotonic() - began > AGAIN
                changed += flags(model) != before  # while the traceback holds all frames
    assert interrupted == INTERRUPTS // 3 + 1
    assert changed == 0
    assert late <= len(dropped), "an interrupt was lost"
    ours = [frame for said in dropped for frame in files_of(said.exc_traceback)]
    assert not any(file.startswith(PACKAGE) for file in ours), "a finalizer of rrfast dropped one"


def files_of(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename
        trace = trace.tb_next


@functools.cache
def places(code: CodeType) -> frozenset[int]:
    """The instructions at which an exception of a signal may be raised.

    CPython looks for signals after a call, at a jump backwards, and where a function begins.
    """
    found = {0}
    after_call = False
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if after_call or name.startswith(("JUMP_BACKWARD", "JUMP_ABSOLUTE")):
            found.add(instruction.offset)
        after_call = name.startswith("CALL")
    return frozenset(found)


class Interrupt:
    """Raises at one of these places in rrfast's code, by its number, once."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, _: object) -> Interrupt | None:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        here = event == "opcode" and frame.f_lasti in places(frame.f_code)
        if event == "call" or here:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def interrupted(number: int, call: Callable[[], object], look: Callable[[], object]) -> bool:
    """Whether there is a place of this number; what a look shows while the traceback lives."""
    tracing = sys.gettrace()
    try:
        sys.settrace(Interrupt(number))
        call()
    except KeyboardInterrupt:
        sys.settrace(tracing)
        look()
        return True
    finally:
        sys.settrace(tracing)
    return False


def test_an_interrupt_at_every_place_leaves_no_trace() -> None:
    model, x = mixed(perceptron), torch.rand(4, 20)

    def call() -> None:
        with torch.no_grad(), Engine(model) as opened:
            opened.forward_backward(x, 1.0)

    def look() -> None:
        assert flags(model) == before

    call()
    before, number = flags(model), 1
    while interrupted(number, call, look):
        number += 1
    assert number > 100


@pytest.mark.parametrize("how", ["own train", "twice"])
def test_where_python_has_to_leave_all_is_back_when_the_traceback_is_gone(how: str) -> None:
    """A module's own `train`, or two engines that hold the same."""
    model, x = mixed(own_train), torch.rand(4, 20)

    def own() -> None:
        rrfast.radius(model, x, method="grad")

    def twice() -> None:
        with Engine(model[0]), Engine(model[0]):
            pass

    call = {"own train": own, "twice": twice}[how]
    call()
    before, number = flags(model), 1
    while interrupted(number, call, lambda: None):
        assert flags(model) == before, f"at place {number}"
        number += 1
    assert number > 100


def test_no_interrupt_is_lost_when_an_engine_dies() -> None:
    """Of what is raised then nobody hears, and a Ctrl-C that falls there would stop nothing."""
    model = mixed(perceptron)
    first, second = Engine(model), Engine(model)
    with first, second:
        pass
    ran: list[str] = []
    sys.setprofile(lambda frame, *_: ran.append(frame.f_code.co_name))
    try:
        del first, second
    finally:
        sys.setprofile(None)
    assert set(ran) <= {"test_no_interrupt_is_lost_when_an_engine_dies"}, ran


def test_an_exception_sent_to_a_thread_leaves_no_trace() -> None:
    model, x = mixed(perceptron), torch.rand(4, 20)
    rrfast.radius(model, x)
    before = flags(model)
    generator, ended = random.Random(0), []

    class Stop(BaseException):
        pass

    def scored() -> None:
        try:
            while True:
                rrfast.radius(model, x)
        except Stop:
            ended.append(True)

    for _ in range(100):
        threads = [threading.Thread(target=scored) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(generator.uniform(1e-3, 4e-3))
        for thread in threads:
            while thread.is_alive():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Stop)
                )
                thread.join(0.05)
        assert flags(model) == before
    assert len(ended) > 150  # the others were stopped before they began


def test_recursion_that_ends_anywhere_leaves_no_trace() -> None:
    model, x = mixed(perceptron), torch.rand(4, 20)
    rrfast.radius(model, x)
    before, failed = flags(model), 0

    def at_depth(depth: int) -> None:
        if depth:
            at_depth(depth - 1)
        else:
            rrfast.radius(model, x, method="grad")

    used = len(list(iter_frames()))
    limit = sys.getrecursionlimit()
    for left in range(1, 60):
        try:
            at_depth(limit - used - left)
        except RecursionError:
            failed += 1
        assert flags(model) == before, f"{left} frames were left"
    assert 5 < failed < 59


def iter_frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, RecursionError, SystemExit])
@pytest.mark.parametrize("mode", [False, True])
def test_a_train_that_fails_does_not_keep_the_rest(error: type[BaseException], mode: bool) -> None:
    """On entering and on leaving."""
    model, x = mixed(own_train), torch.rand(4, 20)

    class Fails(nn.Linear):
        armed = False

        def train(self, to: bool = True) -> Fails:
            if self.armed and to == mode:
                type(self).armed = False
                raise error("no")
            return super().train(to)

    failing = nn.Sequential(model, Fails(5, 5), mixed(perceptron)[0:0])
    before = flags(failing)
    Fails.armed = True
    with pytest.raises(error):
        rrfast.radius(failing, x)
    assert flags(failing) == before
    rrfast.radius(failing, x)
    assert flags(failing) == before


def test_a_setattr_of_the_users_own_is_not_run() -> None:
    class Careful(nn.Linear):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "training" and "weight" in self._parameters:
                raise RuntimeError("no")
            super().__setattr__(name, value)

    model = nn.Sequential(perceptron(), Careful(5, 5), nn.Dropout())
    before = flags(model)
    assert rrfast.radius(model, torch.rand(4, 20)).isfinite().all()
    assert flags(model) == before


def test_a_generator_that_is_closed_leaves_no_trace() -> None:
    model, x = mixed(perceptron), torch.rand(4, 20)
    before = flags(model)

    def walking() -> Iterator[Tensor]:
        with Engine(model) as opened, opened.sharing(x):
            while True:
                yield opened.forward(x)

    walk = walking()
    next(walk)
    assert flags(model) != before
    walk.close()
    assert flags(model) == before


def test_what_is_left_held_dies_with_its_engine() -> None:
    """A reused id is not taken for one that is still held."""
    for _ in range(50):
        model = mixed(perceptron)
        before = flags(model)
        opened = Engine(model)
        opened.__enter__()
        assert flags(model) != before
        del opened
        assert flags(model) == before


def test_an_engine_is_entered_once() -> None:
    model = mixed(perceptron)
    before, opened = flags(model), Engine(model)
    for _ in range(2):
        with opened, pytest.raises(RuntimeError, match="entered once"), opened:
            pass
        assert flags(model) == before
        opened = Engine(model)


def test_a_fork_while_others_score_leaves_the_child_nothing() -> None:
    model, x = mixed(Unused), torch.rand(4, 20)
    before = flags(model)
    stop = threading.Event()

    def scored() -> None:
        while not stop.is_set():
            rrfast.radius(model, x)

    threads = [threading.Thread(target=scored) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        codes = []
        for _ in range(40):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # a lock that nobody will release
                right = flags(model) == before
                with Engine(model):
                    right = right and not any(flags(model)[0])
                os._exit(0 if right and flags(model) == before else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 40
    assert flags(model) == before


def test_a_fork_within_a_call_leaves_its_own_engine_open() -> None:
    model = mixed(perceptron)
    before = flags(model)
    with Engine(model):
        child = os.fork()
        if child == 0:
            inside = not any(flags(model)[0])
    if child == 0:
        os._exit(0 if inside and flags(model) == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert flags(model) == before
