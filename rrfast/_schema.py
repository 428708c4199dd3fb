"""Every op's schema, fake and tags: the one source of truth.

The ops exist as soon as this module is imported, on every device, with the reference as their
kernel; a compiled library then registers faster kernels for one device. Nothing is differentiable:
outputs are detached.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rrfast import reference
from rrfast.reference import accumulate_dtype, memory_format

SCHEMAS = {
    "direction_seed": """(Tensor logits, float temperature)
        -> (Tensor prediction, Tensor margin, Tensor seed, Tensor runner_up)""",
    "fgsm_step": """(Tensor x, Tensor grad, Tensor step, Tensor? bounds=None, Tensor? scale=None)
        -> (Tensor perturbed, Tensor direction)""",
    "perturb": """(Tensor x, Tensor direction, Tensor step, Tensor? bounds=None, Tensor? scale=None)
        -> Tensor""",
    "linear_radius": """(Tensor h0, Tensor h1, Tensor prediction, float alpha)
        -> (Tensor radius, Tensor rival)""",
    "bisection_step_": """(Tensor logits, Tensor prediction, Tensor(a!) lower, Tensor(b!) upper,
        Tensor(c!) radius, Tensor(d!)? rival=None) -> ()""",
    "rat_perturb": """(Tensor x, Tensor grad, Tensor logits, Tensor labels, float eps_correct,
        float eps_wrong, Tensor? bounds=None, Tensor? scale=None)
        -> (Tensor perturbed, Tensor correct)""",
    "plane_distance": """(Tensor x, Tensor normal, Tensor gap, Tensor? bounds=None,
        Tensor? scale=None) -> Tensor""",
    "search_step_": """(Tensor logits, Tensor prediction, Tensor(a!) state, float nudge=0.0,
        Tensor(b!)? rival=None) -> ()""",
    "probability_margin": """(Tensor logits, Tensor labels)
        -> (Tensor margin, Tensor top2_ratio, Tensor similarity, Tensor entropy)""",
}
OPS = tuple(SCHEMAS)


def _like(x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(x.shape, dtype=dtype, device=x.device, memory_format=memory_format(x))


def _fake_direction_seed(
    logits: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    samples = logits.shape[0]
    return (
        logits.new_empty(samples, dtype=torch.int64),
        logits.new_empty(samples, dtype=accumulate_dtype(logits.dtype)),
        logits.new_empty(logits.shape),
        logits.new_empty(samples, dtype=torch.int64),
    )


def _fake_fgsm_step(
    x: Tensor, grad: Tensor, step: Tensor, bounds: Tensor | None = None, scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return _like(x, x.dtype), _like(x, torch.int8)


def _fake_perturb(
    x: Tensor,
    direction: Tensor,
    step: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    return _like(x, x.dtype)


def _fake_linear_radius(
    h0: Tensor, h1: Tensor, prediction: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    samples = h0.shape[0]
    return (
        h0.new_empty(samples, dtype=accumulate_dtype(h0.dtype)),
        h0.new_empty(samples, dtype=torch.int64),
    )


def _fake_bisection_step_(
    logits: Tensor,
    prediction: Tensor,
    lower: Tensor,
    upper: Tensor,
    radius: Tensor,
    rival: Tensor | None = None,
) -> None:
    return None


def _fake_rat_perturb(
    x: Tensor,
    grad: Tensor,
    logits: Tensor,
    labels: Tensor,
    eps_correct: float,
    eps_wrong: float,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return _like(x, x.dtype), logits.new_empty(logits.shape[0], dtype=torch.bool)


def _fake_plane_distance(
    x: Tensor,
    normal: Tensor,
    gap: Tensor,
    bounds: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    return x.new_empty(x.shape[0], dtype=accumulate_dtype(x.dtype))


def _fake_search_step_(
    logits: Tensor,
    prediction: Tensor,
    state: Tensor,
    nudge: float = 0.0,
    rival: Tensor | None = None,
) -> None:
    return None


def _fake_probability_margin(
    logits: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    samples, dtype = logits.shape[0], accumulate_dtype(logits.dtype)
    return (
        logits.new_empty(samples, dtype=dtype),
        logits.new_empty(samples, dtype=dtype),
        logits.new_empty(samples, dtype=dtype),
        logits.new_empty(samples, dtype=dtype),
    )


_FAKES: dict[str, Callable[..., object]] = {
    "direction_seed": _fake_direction_seed,
    "fgsm_step": _fake_fgsm_step,
    "perturb": _fake_perturb,
    "linear_radius": _fake_linear_radius,
    "bisection_step_": _fake_bisection_step_,
    "rat_perturb": _fake_rat_perturb,
    "plane_distance": _fake_plane_distance,
    "search_step_": _fake_search_step_,
    "probability_margin": _fake_probability_margin,
}

_library = torch.library.Library("rrfast", "DEF")
for _op, _schema in SCHEMAS.items():
    _tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)
    _library.define(_op + " ".join(_schema.split()), tags=_tags)
    # Under no_grad, because falling through to it leaves its torch calls to be recorded.
    _reference = torch.no_grad()(getattr(reference, _op))
    _library.impl(_op, _reference, "CompositeExplicitAutograd")
    # Falling through costs nothing, where an autograd formula costs microseconds on every call.
    _library.impl(_op, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"rrfast::{_op}", _FAKES[_op], lib=_library)
