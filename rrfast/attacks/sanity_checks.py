"""Checks, as in AutoAttack, for signs that an attack's result is not reliable."""

from __future__ import annotations

import torch
from torch import Tensor

from rrfast.attacks.ascent import ascent
from rrfast.attacks.attack import check_targets
from rrfast.attacks.loss import ce
from rrfast.engine import Engine, Model, check_input


def sanity(model: Model, x: Tensor, labels: Tensor) -> list[str]:
    """Warnings that gradient attacks may not be reliable for this model; empty if there are none.

    It looks for gradients that are zero in every element, using log-odds that do not saturate
    (gradients cannot move such a sample); for outputs that differ in any bit in a second forward (a
    randomised model; the warning says by how much, because some kernels are not deterministic
    either); and for rows that are probabilities: all within [0, 1], with a sum of 1 up to K eps of
    their dtype, the rounding of K terms.

    Args:
        model: Maps [B, ...] to logits [B, K]. Runs in eval mode; its state is restored.
        x: [B, ...], floating point.
        labels: [B] int64.

    Raises:
        TypeError: `x` is not floating point, or `labels` not int64.
        ValueError: `labels` is not one per sample; the model has no gradient.

    Cost: 2 forwards, 1 backward. Waits for the device.

    Source: The checks of the package `autoattack`, which uses the gradients of its own losses, and
    other thresholds.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(dim=1))
        >>> print(*sanity(model, torch.rand(8, 4), torch.randint(3, (8,))))
        The logits are probabilities (in [0, 1], sum 1): leave the model's softmax out, its ...
    """
    x = check_input(x)
    labels = check_targets(labels, x)
    if x.numel() == 0:
        return []
    with Engine(model, labels) as engine:
        recorded = engine.record(x)
        first, again = recorded.logits, engine.forward(x)
        _, seed = ascent(ce, first, labels)
        gradient = recorded.grad(seed, last=True)
    found = []
    still = int((gradient == 0).flatten(1).all(dim=1).sum())
    if still:
        found.append(
            f"The gradient is exactly zero for {still} of {len(x)} samples: attacks by gradients "
            "stay where they start there, and prove nothing."
        )
    if not torch.equal(first.nan_to_num(), again.nan_to_num()):
        change = float((first.double() - again.double()).abs().nan_to_num().max())
        found.append(
            f"The logits change by up to {change:.3g} from one forward to the next: a randomised "
            "model must be attacked in expectation."
        )
    if _probabilities(first):
        found.append(
            "The logits are probabilities (in [0, 1], sum 1): leave the model's softmax out, its "
            "gradients vanish where it is sure."
        )
    return found


def beyond_gradients(white_box: Tensor, after: Tensor) -> list[str]:
    """A warning if Square, an attack without gradients, found errors that gradient attacks did not.

    Args:
        white_box: [B] bool, wrong after the gradient attacks.
        after: [B] bool, wrong after Square.

    Cost: waits for the device.

    Example:
        >>> print(*beyond_gradients(torch.tensor([True, False]), torch.tensor([True, True])))
        Square found 1 error that no attack by gradients did, among 2 samples: the gradients ...
    """
    more = int((after & ~white_box).sum())
    if not more:
        return []
    errors = "1 error" if more == 1 else f"{more} errors"
    sentence = (
        f"Square found {errors} that no attack by gradients did, among {len(after)} samples: the "
        "gradients may mislead, and certainly did not show all there is."
    )
    return [sentence]


def _probabilities(logits: Tensor) -> bool:
    rounding = logits.shape[1] * torch.finfo(logits.dtype).eps
    within = (logits >= 0) & (logits <= 1)
    return bool((within.all(dim=1) & ((logits.double().sum(dim=1) - 1).abs() <= rounding)).all())
