"""How long a row or a sample may be where kernels count within it in 32 bits: on CUDA.

`make emulate` has these kernels in the CPU's place. No element is looked at here: rows come in
batches of none, and nobody writes to a sample that the system has given no memory yet.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rrfast import _native, ops
from rrfast.ops import unchecked

LIMIT = 2**31
EMULATED = (_native.PACKAGE / "librrfast_cpu.so").resolve().stem == "librrfast_emulated"


@pytest.fixture(autouse=True)
def _only_where_there_is_a_limit(device: torch.device) -> None:
    if device.type == "cpu" and not EMULATED:
        pytest.skip("the CPU's kernels count in 64 bits; `make emulate` runs this")


def none(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(0, *shape, dtype=dtype)


INDEX, STATE = none(dtype=torch.int64), none(dtype=torch.float32)
#: By their logits.
OF_ROWS: dict[str, Callable[[Tensor], object]] = {
    "direction_seed": ops.direction_seed,
    "linear_radius": lambda h: ops.linear_radius(h, h, INDEX.to(h.device)),
    "bisection_step_": lambda h: ops.bisection_step_(
        h, INDEX.to(h.device), *(STATE.to(h.device, copy=True) for _ in range(3))
    ),
    "search_step_": lambda h: ops.search_step_(
        h, INDEX.to(h.device), torch.empty(6, 0, device=h.device)
    ),
    "loss_seed": lambda h: ops.loss_seed(h, INDEX.to(h.device), "ce"),
    "plane_seed": lambda h: ops.plane_seed(h, INDEX.to(h.device), INDEX.to(h.device)),
    "probability_margin": lambda h: ops.probability_margin(h, INDEX.to(h.device)),
    "rat_perturb": lambda h: ops.rat_perturb(
        none(3).to(h.device), none(3).to(h.device), h, INDEX.to(h.device), 0.1
    ),
}


def redirected(x: Tensor, gap: Tensor) -> None:
    """Unchecked, so that tensors may share what memory there is."""
    aim, signs = (torch.empty_like(x, dtype=dtype) for dtype in (torch.float32, torch.int8))
    state, nearest = gap.new_empty(6, 1), gap.new_empty(8, 1)
    seen, found = (x, x, gap, state, gap.long()), (nearest, signs, gap.long())
    unchecked.redirect_(*seen, gap.clone(), aim, x, signs, *found)


#: By x, which is the normal as well, and the gap.
OF_IMAGES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "plane_distance": lambda x, gap: ops.plane_distance(x, x, gap),
    "redirect_": redirected,
    "probe_step": lambda x, gap: ops.probe_step(x, x, gap, 0.0, 1.0),
}


@pytest.mark.parametrize("op", OF_ROWS)
def test_rows_of_too_many_classes_get_a_sentence(op: str, device: torch.device) -> None:
    OF_ROWS[op](none(LIMIT - 1).to(device))
    said = r"there must be fewer than 2\^31 classes in logits on CUDA, got 2147483648"
    with pytest.raises(RuntimeError, match=said):
        OF_ROWS[op](none(LIMIT).to(device))


@pytest.mark.parametrize("op", OF_IMAGES)
def test_samples_of_too_many_elements_get_a_sentence(op: str, device: torch.device) -> None:
    x, gap = torch.empty(1, LIMIT, dtype=torch.bfloat16, device=device), torch.zeros(1)
    said = r"there must be fewer than 2\^31 elements in a sample of x on CUDA, got 2147483648"
    with pytest.raises(RuntimeError, match=said):
        OF_IMAGES[op](x, gap.to(device))


def test_every_op_that_has_a_limit_is_here() -> None:
    """The others go over elements one by one, in 64 bits: `every_kernel --huge`."""
    assert {*OF_ROWS, *OF_IMAGES} | {"fgsm_step", "perturb"} == set(ops.OPS)
