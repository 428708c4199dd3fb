"""The tests that every op must pass.

A test file per op subclasses `OpTester` and says what the op's arguments look like.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rrfast import _native, ops, reference
from rrfast.ops import accumulate_dtype

Case = tuple[Any, ...]

#: Rows of logits of every length that a kernel treats differently: lanes, warps, blocks, vectors
#: and what is left over.
CLASSES = (2, 3, 10, 31, 32, 33, 63, 64, 65, 127, 128, 1000, 1001, 1024, 1025, 2048, 4097, 100_000)

#: Shapes of inputs: one element, odd sizes, vectors of every width and not, several tiles, two to
#: five dimensions.
SHAPES = (
    (1,),
    (5,),
    (1, 1),
    (3, 127),
    (4, 128),
    (2, 20_001),
    (3, 5, 7),
    (4, 3, 8, 8),
    (2, 3, 32, 32),
    (2, 3, 5, 7),
    (3, 1, 28, 28),
    (2, 2, 3, 4, 5),
)


def channels_last(x: Tensor) -> Tensor:
    """The same images or volumes with the channels innermost."""
    three = x.dim() == 5
    return x.contiguous(memory_format=torch.channels_last_3d if three else torch.channels_last)


def logits(dtype: torch.dtype, device: torch.device, samples: int, classes: int) -> Tensor:
    """Random logits, with ties of the best, of the runner-up and of all, and signed zeros."""
    h = torch.randn(samples, classes).mul_(4)
    if samples >= 5:
        h[0] = h[0, 0]
        h[1, -1] = h[1].max()
        h[2].clamp_(max=h[2].topk(2).values[-1].item())
        h[3] = torch.zeros(classes).copysign(torch.randn(classes))
    return h.to(device, dtype)


def non_finite_logits(dtype: torch.dtype, device: torch.device, classes: int) -> Tensor:
    """Logits with NaN and infinities at the ends and in the middle of the rows."""
    h = torch.randn(12, classes).mul_(4)
    for row, column in enumerate((0, classes // 2, classes - 1)):
        h[row, column] = math.nan
        h[3 + row, column] = math.inf
        h[6 + row, column] = -math.inf
    h[9, :2] = math.nan
    h[10, :2] = math.inf
    h[11] = -math.inf
    return h.to(device, dtype)


def inputs(
    dtype: torch.dtype, device: torch.device, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs in [0, 1], a gradient with zeros in it, and a step per sample."""
    x = torch.rand(shape)
    grad = torch.randn(shape) * (torch.rand(shape) > 0.2)
    step = torch.randn(shape[0]).to(accumulate_dtype(dtype))
    return x.to(device, dtype), grad.to(device, dtype), step.to(device)


def with_non_finite(values: Tensor) -> Tensor:
    """A copy whose first elements are NaN, infinities and zeros of both signs."""
    values = values.clone()
    specials = torch.tensor(
        [math.nan, math.inf, -math.inf, 0.0, -0.0], dtype=values.dtype, device=values.device
    )
    flat = values.view(-1)
    count = min(len(specials), flat.numel())
    flat[:count] = specials[:count]
    return values


def unaligned(values: Tensor) -> Tensor:
    """The same values, one element past the start of their memory."""
    storage = torch.empty(values.numel() + 1, dtype=values.dtype, device=values.device)
    return storage[1:].view(values.shape).copy_(values)


def spoilt(values: Tensor) -> Tensor:
    """A tensor like it, with the same strides and other values."""
    other = torch.empty_like(values)
    return other.copy_(~values if values.dtype == torch.bool else -values - 1)


def strided(values: Tensor) -> Tensor:
    """The same values, with gaps between them."""
    gaps = torch.zeros(*values.shape, 2, dtype=values.dtype, device=values.device)
    return gaps[..., 0].copy_(values)


class Named(Tensor):
    """A tensor by another name, as torchvision's images are."""


class OpTester(ABC):
    """What holds for every op; bits are compared unless `tolerance` says why not."""

    op: str

    @abstractmethod
    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        """Arguments of the wrapper in `rrfast.ops`, each with a name."""

    @abstractmethod
    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        """One small ordinary case."""

    @abstractmethod
    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        """A batch of no samples."""

    @abstractmethod
    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        """Wrong arguments, what they raise, and a pattern of the sentence."""

    def expected(self, *args: Any) -> Any:
        """What the reference says."""
        return self.results(getattr(reference, self.op)(*self.schema_arguments(*args)), args)

    def schema_arguments(self, *args: Any) -> Case:
        """The wrapper's arguments as the op's schema has them."""
        return args

    def results(self, output: Any, args: Case) -> tuple[Tensor, ...]:
        """All that a call gives back or changes."""
        return output if isinstance(output, tuple) else (output,)

    def tolerance(self, args: Case) -> tuple[float, ...] | None:
        """Absolute tolerance of each result, or None for equal bits."""
        return None

    def call(self, *args: Any) -> tuple[Tensor, ...]:
        return self.results(getattr(ops, self.op)(*args), args)

    def into(self, out: tuple[Tensor, ...], *args: Any) -> tuple[Tensor, ...]:
        """A call with `out`."""
        returned = getattr(ops, self.op)(*args, out=out if len(out) > 1 else out[0])
        return returned if isinstance(returned, tuple) else (returned,)

    @property
    def overload(self) -> Any:
        return getattr(torch.ops.rrfast, self.op).default

    # -------------------------------------------------------------------------------------- helpers

    def copies(self, args: Case) -> Case:
        return tuple(a.clone() if isinstance(a, Tensor) else a for a in args)

    def check(
        self, actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], args: Case, name: str
    ) -> None:
        tolerances = self.tolerance(args) or (0.0,) * len(expected)
        assert len(actual) == len(expected) == len(tolerances)
        for index, (a, e, atol) in enumerate(zip(actual, expected, tolerances, strict=True)):
            torch.testing.assert_close(
                a,
                e,
                rtol=0,
                atol=atol,
                equal_nan=True,
                check_stride=True,
                msg=lambda m, i=index: f"{name}, result {i}: {m}",
            )

    def skip_if_in_place(self) -> None:
        if self.op.endswith("_"):
            pytest.skip("it has no results")

    # ---------------------------------------------------------------------------------------- tests

    def test_matches_the_reference(self, dtype: torch.dtype, device: torch.device) -> None:
        for name, args in self.cases(dtype, device):
            expected = self.expected(*self.copies(args))
            self.check(self.call(*self.copies(args)), expected, args, name)

    def test_runs_compiled_code(self, device: torch.device) -> None:
        if _native.load()[device.type].state != "loaded":
            pytest.skip(
                f"no compiled kernels for {device.type}: {_native.load()[device.type].reason}"
            )
        key = {"cpu": "CPU", "cuda": "CUDA"}[device.type]
        for name in (self.op, *([] if self.op.endswith("_") else [f"{self.op}.out"])):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rrfast::{name}", key), name

    def test_unaligned_and_strided_inputs(self, dtype: torch.dtype, device: torch.device) -> None:
        for name, args in self.cases(dtype, device):
            expected = self.call(*self.copies(args))
            for layout in (unaligned, strided):
                moved = tuple(
                    layout(a)
                    if isinstance(a, Tensor)
                    and a.is_contiguous()
                    and not self.must_be_contiguous(i)
                    else a
                    for i, a in enumerate(self.copies(args))
                )
                self.check(self.call(*moved), expected, args, f"{name}, {layout.__name__}")

    def must_be_contiguous(self, index: int) -> bool:
        """Whether the argument at this place is changed in place."""
        return False

    def test_leaves_its_inputs_alone(self, dtype: torch.dtype, device: torch.device) -> None:
        args = self.small(dtype, device)
        before = self.copies(args)
        versions = [a._version if isinstance(a, Tensor) else 0 for a in args]
        self.call(*args)
        for index, (a, b) in enumerate(zip(args, before, strict=True)):
            if isinstance(a, Tensor) and self.must_be_contiguous(index):
                assert a._version > versions[index]  # autograd must know of the change
            elif isinstance(a, Tensor):
                torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
                assert a._version == versions[index]

    def test_empty_batch(self, dtype: torch.dtype, device: torch.device) -> None:
        args = self.empty(dtype, device)
        self.check(self.call(*self.copies(args)), self.expected(*self.copies(args)), args, "empty")

    def test_results_are_detached(self, device: torch.device) -> None:
        args = tuple(
            a.clone().requires_grad_()
            if isinstance(a, Tensor) and a.is_floating_point() and not self.must_be_contiguous(i)
            else a
            for i, a in enumerate(self.small(torch.float32, device))
        )
        assert not any(result.requires_grad for result in self.call(*args))

    def test_opcheck(self, dtype: torch.dtype, device: torch.device) -> None:
        args = self.schema_arguments(*self.small(dtype, device))
        torch.library.opcheck(self.overload, args)

    def test_writes_into_out(self, dtype: torch.dtype, device: torch.device) -> None:
        self.skip_if_in_place()
        for name, args in self.cases(dtype, device):
            expected = self.call(*self.copies(args))
            out = tuple(spoilt(e) for e in expected)
            returned = self.into(out, *self.copies(args))
            assert all(r is o for r, o in zip(returned, out, strict=True))
            self.check(out, expected, args, f"{name}, out")

    def test_opcheck_of_out(self, dtype: torch.dtype, device: torch.device) -> None:
        self.skip_if_in_place()
        args = self.small(dtype, device)
        out = self.call(*args)
        self.into(out, *args)
        overload = getattr(torch.ops.rrfast, self.op).out
        names = [a.name for a in overload._schema.arguments if a.kwarg_only]
        outputs = dict(zip(names, out, strict=True))
        torch.library.opcheck(overload, self.schema_arguments(*args), outputs)

    @pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
    def test_out_compiles_to_one_graph(self, device: torch.device, backend: str) -> None:
        self.skip_if_in_place()
        args = self.small(torch.float32, device)
        expected = self.call(*args)
        out = tuple(spoilt(e) for e in expected)
        torch.compiler.reset()
        compiled = torch.compile(self.into, fullgraph=True, backend=backend, dynamic=False)
        self.check(compiled(out, *args), expected, args, backend)
        self.check(out, expected, args, backend)

    def test_out_that_does_not_fit_gets_a_sentence(self, device: torch.device) -> None:
        self.skip_if_in_place()
        args = self.small(torch.float32, device)
        right = self.call(*args)
        self.into(right, *args)
        with pytest.raises(TypeError, match="out must be "):
            getattr(ops, self.op)(*args, out=(*right, right[0]))
        memory = args[0].untyped_storage()
        for i, one in enumerate(right):
            shared = one.new_empty(0).set_(memory, 0, one.shape, one.stride())
            kind = str(one.dtype).removeprefix("torch.")
            for wrong, error, sentence in (
                ("x", TypeError, f"must be a dense {kind} tensor, got str 'x'"),
                (one.to(torch.int32), TypeError, f"must be a dense {kind} tensor, got a"),
                (one[:-1], ValueError, r"must have the shape of the result, \["),
                (strided(one), ValueError, "must be contiguous, as the result is, got strides"),
                (one.to("meta"), ValueError, "must be on the device of the inputs"),
                (shared, ValueError, "must have memory of its own, and shares it with an input"),
                (shared.as_subclass(Named), ValueError, "must have memory of its own, and shar"),
                (torch._neg_view(one), ValueError, "must not be a negated view"),
            ):
                with pytest.raises(error, match=sentence):
                    self.into((*right[:i], wrong, *right[i + 1 :]), *args)

    @pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
    @pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
    def test_compiles_to_one_graph(self, device: torch.device, backend: str, dynamic: bool) -> None:
        args = self.small(torch.float32, device)
        torch.compiler.reset()
        compiled = torch.compile(self.call, fullgraph=True, backend=backend, dynamic=dynamic)
        self.check(compiled(*self.copies(args)), self.call(*self.copies(args)), args, backend)

    def test_fake_tensors_agree_with_real_ones(self, dtype: torch.dtype) -> None:
        args = self.small(dtype, torch.device("cpu"))
        fake = self.call(*(a.to("meta") if isinstance(a, Tensor) else a for a in args))
        real = self.call(*args)
        for r, f in zip(real, fake, strict=True):
            assert (r.shape, r.dtype, r.stride()) == (f.shape, f.dtype, f.stride())

    def test_wrong_arguments_get_a_sentence(self) -> None:
        for args, error, sentence in self.invalid():
            with pytest.raises(error, match=sentence):
                getattr(ops, self.op)(*args)

    def test_cuda_graph_captures_it(self) -> None:
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        device = torch.device("cuda")
        args = self.small(torch.float32, device)
        static = self.copies(args)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = self.call(*static)
        for target, source in zip(static, args, strict=True):
            if isinstance(target, Tensor):
                target.copy_(source)
        graph.replay()
        self.check(captured, self.call(*self.copies(args)), args, "graph")
