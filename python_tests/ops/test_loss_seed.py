from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from op_tester import CLASSES, Case, OpTester, logits, non_finite_logits
from torch import Tensor

from rrfast import ops
from rrfast.attacks import loss as losses
from rrfast.attacks.ascent import ascent
from rrfast.ops._loss_seed import LEAST_CLASSES, LOSS_KINDS, LossKind

#: Relative error of one rounding.
UNIT = {torch.float64: 2**-53, torch.float32: 2**-24, torch.bfloat16: 2**-8, torch.float16: 2**-11}
ODDS = ("ce", "confidence", "other")
NAN, INF = math.nan, math.inf


def classes_of(h: Tensor) -> Tensor:
    """The best class, the last, the first, and others."""
    y = torch.randint(h.shape[1], h.shape[:1], device=h.device)
    y[::4], y[1::4], y[2::4] = h[::4].argmax(dim=1), h.shape[1] - 1, 0
    return y


def arguments(h: Tensor, kind: LossKind, y: Tensor | None = None) -> Case:
    """Those of the wrapper; a target is now and then the label."""
    y = classes_of(h) if y is None else y
    return (h, y, kind, classes_of(h)) if kind == "dlr_targeted" else (h, y, kind)


class TestLossSeed(OpTester):
    op = "loss_seed"

    def cases(self, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Case]]:
        for classes in CLASSES:
            # Kernels differ between odds and margins; within them only numbers of a row do.
            every = classes in (3, 10, 65, 128, 1001)
            for kind in LOSS_KINDS if every else ("ce", "dlr_targeted" if classes > 3 else "cw"):
                if classes < LEAST_CLASSES.get(kind, 2):
                    continue
                h = logits(dtype, device, 9, classes)
                yield f"{kind}, K={classes}", arguments(h, kind)
                yield f"{kind}, K={classes}, one sample", arguments(h[8:], kind)
                broken = non_finite_logits(dtype, device, classes)
                yield f"{kind}, K={classes}, non-finite", arguments(broken, kind)
        for kind in LOSS_KINDS:
            h = logits(dtype, device, 5, 10)
            strange = torch.tensor([-1, 10, 1 << 40, -100, 3], device=device)
            yield f"{kind}, no such class", arguments(h, kind, strange)
            h = logits(dtype, device, 2000, 10).round()
            odd = torch.rand(h.shape, device=device)
            h[1000:][odd[1000:] < 0.2], h[1000:][odd[1000:] > 0.8] = -INF, INF
            yield f"{kind}, many rows, of equals, half of them masked", arguments(h, kind)
        yield "no labels", (logits(dtype, device, 5, 10), None, "confidence")

    def small(self, dtype: torch.dtype, device: torch.device) -> Case:
        return arguments(logits(dtype, device, 5, 10), "dlr_targeted")

    def empty(self, dtype: torch.dtype, device: torch.device) -> Case:
        y = torch.empty(0, dtype=torch.int64, device=device)
        return torch.empty(0, 10, dtype=dtype, device=device), y, "ce"

    def schema_arguments(self, *args: Any) -> Case:
        h, y, kind, *targets = args
        return h, y, targets[0] if targets else None, LOSS_KINDS.index(kind)

    def tolerance(self, args: Case) -> tuple[float, ...] | None:
        # Margins and their ratios are the same bits. Of the odds the seed is bounded as that of
        # `direction_seed`: exponential, quotient and a rounded difference 4 u, and the additions of
        # the sum. The sum's error is the logarithm's too, which adds 4 u of itself. Then numbers of
        # up to M + log K and 2 M + log K are rounded, where M is the largest |logit|. Both err.
        if args[2] not in ODDS:
            return None
        dtype, classes = args[0].dtype, args[0].shape[1]
        unit = UNIT[ops.accumulate_dtype(dtype)]
        additions = classes if classes < 128 else 64 + classes // 512
        rounding = 2 * UNIT[dtype] if dtype in (torch.bfloat16, torch.float16) else 0.0
        most = float(args[0].double().nan_to_num(0, 0, 0).abs().amax()) if len(args[0]) else 0.0
        log = math.log(classes)
        loss = 2 * (4 + additions + 4 * log + 3 * most + 2 * log) * unit
        return loss, 2 * (4 + additions) * unit + rounding

    def invalid(self) -> Iterator[tuple[Case, type[Exception], str]]:
        h, y = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
        yield (
            (h.int(), y, "ce"),
            TypeError,
            r"logits must be .* got an int32 tensor of shape \[2, 4\]",
        )
        yield (h[:, :1], y, "ce"), ValueError, "logits must have at least two classes"
        yield (h, y, "cross"), ValueError, "kind must be one of ce, cw, confidence, other, dlr"
        yield (h, y, 0), ValueError, "kind must be one of .* got 0"
        yield (h, None, "ce"), TypeError, "labels must be an int64 tensor, got NoneType"
        yield (h, y.int(), "confidence"), TypeError, "labels must be an int64 tensor"
        yield (h, y[:1], "cw"), ValueError, "labels must have one value per sample"
        yield (
            (h[:, :2], y, "dlr"),
            ValueError,
            "loss dlr must have 3 classes at least, got logits of 2",
        )
        yield (
            (h[:, :3], y, "dlr_targeted", y),
            ValueError,
            "dlr_targeted must have 4 classes at least",
        )
        yield (h, y, "dlr_targeted"), TypeError, "targets must be an int64 tensor, got NoneType"
        yield (h, y, "dlr", y), ValueError, "targets must be None for loss dlr, got an int64 tensor"


def test_the_library_of_losses_has_no_other_kind() -> None:
    """A loss that is new must get a kind, else an attack takes its gradient by autograd."""
    assert {f.__name__ for f in [*losses.LOSSES.values(), *losses.TARGETED.values()]} == set(
        LOSS_KINDS
    )


@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_nothing_known_is_nan_in_the_whole_row(kind: LossKind, dtype: torch.dtype) -> None:
    rows = torch.tensor([[2.0, 1.0, NAN, 0.0], [-INF] * 4, [2.0, 1.0, 0.5, 0.0]], dtype=dtype)
    y, t = torch.tensor([0, 0, 4]), torch.tensor([1, 1, 1])
    loss, seed = ops.loss_seed(rows, y, kind, t if kind == "dlr_targeted" else None)
    known = kind == "confidence"  # which asks for no label
    assert loss.isnan().tolist() == [True, True, not known]
    assert torch.equal(seed.isnan().all(dim=1), loss.isnan())
    if kind == "dlr_targeted":
        loss, seed = ops.loss_seed(rows[2:], y[:1], kind, t[:1] - 2)
        assert bool(loss.isnan().all())
        assert bool(seed.isnan().all())


@pytest.mark.parametrize("kind", ["ce", "cw", "dlr"])
def test_only_the_label_moves_where_all_others_are_masked(
    kind: LossKind, dtype: torch.dtype
) -> None:
    loss, seed = ops.loss_seed(
        torch.tensor([[-INF, 1.0, -INF]], dtype=dtype), torch.tensor([1]), kind
    )
    assert loss.tolist() == [-INF]
    assert seed.tolist() == [[0.0, -1.0, 0.0]]


@pytest.mark.parametrize("kind", ["ce", "cw", "other", "dlr", "dlr_targeted"])
def test_infinity_is_the_largest_number_and_does_not_move(
    kind: LossKind, dtype: torch.dtype
) -> None:
    h = torch.tensor([[0.0, INF, INF, 1.0], [INF, 0.0, 2.0, 1.0], [INF] * 4], dtype=dtype)
    y = torch.zeros(3, dtype=torch.int64)
    loss, seed = ops.loss_seed(h, y, kind, y + 1 if kind == "dlr_targeted" else None)
    assert bool(seed[h == INF].eq(0).all())
    assert not bool(loss.isnan().any())
    # Where two overflow neither is ahead.
    assert float(loss[2]) == 0


def test_confidence_of_infinity_is_unknown(dtype: torch.dtype) -> None:
    h = torch.tensor([[INF, 0.0], [-INF, -INF], [0.0, -INF], [1.0, 0.0]], dtype=dtype)
    loss, seed = ops.loss_seed(h, None, "confidence")
    assert loss.tolist()[2:] == [INF, 1.0]
    assert bool(loss[:2].isnan().all())
    assert seed[2:].tolist() == [[1.0, 0.0], [1.0, -1.0]]


@pytest.mark.parametrize("place", range(4))
def test_ratio_ranks_equals_by_the_lower_class(place: int) -> None:
    """Three are the second largest; the first of those behind it is the third."""
    row = [1.0] * 4
    row[place] = 3.0
    _, seed = ops.loss_seed(torch.tensor([row]), torch.tensor([place]), "dlr")
    behind = [k for k in range(4) if k != place]
    # -1 / spread at the label and its share in the spread cancel, at a loss of -1.
    expected = [0.0] * 4
    for k in behind:
        expected[k] = 1 / 3 / 2
    expected[place], expected[behind[1]] = -0.5 + 0.5, 1 / 3 / 2 - 0.5
    torch.testing.assert_close(seed, torch.tensor([expected]))


def test_a_partial_of_anything_else_goes_by_autograd() -> None:
    """What the op does not know of must not be dropped."""
    h, y = torch.randn(6, 5), torch.arange(6) % 5
    swapped = partial(losses.cw, labels=(y + 1) % 5)
    with pytest.raises(TypeError, match="multiple values"):
        ascent(swapped, h, y)
    with pytest.raises(TypeError, match="targets"):
        ascent(losses.dlr_targeted, h, y)  # type: ignore[arg-type]
    value, _ = ascent(partial(losses.cw), h, y)
    torch.testing.assert_close(value, losses.cw(h, y), rtol=0, atol=0)
