"""`rrfast.radius`: how far an input must move to change the prediction."""

from __future__ import annotations

from typing import Any, Literal, overload

from torch import Tensor

from rrfast._checks import check_bool
from rrfast.engine import Model, check_input
from rrfast.methods import Method, RadiusResult
from rrfast.methods.registry import configured


@overload
def radius(
    model: Model,
    x: Tensor,
    *,
    method: str | Method = ...,
    full_output: Literal[False] = ...,
    **options: Any,
) -> Tensor: ...
@overload
def radius(
    model: Model,
    x: Tensor,
    *,
    method: str | Method = ...,
    full_output: Literal[True],
    **options: Any,
) -> RadiusResult: ...
@overload
def radius(
    model: Model,
    x: Tensor,
    *,
    method: str | Method = ...,
    full_output: bool,
    **options: Any,
) -> Tensor | RadiusResult: ...
def radius(
    model: Model,
    x: Tensor,
    *,
    method: str | Method = "fast",
    full_output: bool = False,
    **options: Any,
) -> Tensor | RadiusResult:
    """How far each input must move to change the model's prediction: larger = more trustworthy.

    The radius is the L-infinity length of the smallest change found that changes the prediction:
    along the worst-case direction at x ("fast", "bs", "search", "grad") or along others too. The
    model runs in eval mode with frozen parameters; afterwards its flags, buffers, gradients and
    random state are as before. `x` is not modified. Works under `no_grad`, `inference_mode` and
    autocast. Samples do not influence each other. With `bounds`, `x` must lie in the box
    (`rrfast.engine.box.within`). On a GPU only the first call with a model checks this, because the
    host must wait for it; in later calls an x outside has radius NaN. docs/radius/ has a page on
    each method, and says which to use.

    ==========  ====================  =================================  ========================
    method      passes                what it is                         options beside the common
    ==========  ====================  =================================  ========================
    "fast"      2 F + 1 B             RR-Fast: extrapolates the logits   temperature, alpha,
                                      linearly; alpha=0.01 is the        compat
                                      paper's
    "bs"        25 F + 1 B            RR-BS: doubling and bisection; a   temperature, budget,
                                      bracket                            r_min, compat
    "search"    6 F + 1 B             root search on the margin; a       temperature, budget, tol
                                      bracket
    "refined"   10 F + 7 B            search along a ray whose           rounds, classes,
                                      direction is taken at the boundary final_search
    "grad"      1 F + 1 B             margin over the L1 norm of its
                                      gradient
    "pgd"       241 F + 217 B         RR-BS with PGD in place of FGSM    temperature, steps,
                                                                         step_size, radii, r_min
    "deepfool"  2 F + C B per step,   steps to the nearest boundary of   steps, candidates (C),
                two or so             the linearised model               overshoot
    "fab"       203 F + 100 (K-1) B   walks along the boundary towards   steps, alpha_max, eta,
                                      x; the nearest point found         beta, targets,
                                                                         final_search
    "fmn"       104 F + 100 B         searches in a ball around x that   steps, step_size, gamma,
                                      shrinks; the nearest point found   final_search
    ==========  ====================  =================================  ========================

    Args:
        model: Maps [B, ...] to logits [B, K >= 2], or to an object with such `.logits`. Any
            callable. Modules are in eval mode for the call, also those that a function or an object
            refers to. docs/radius says which wrappers work.
        x: Inputs [B, ...], floating point. B = 0 gives an empty result without a pass.
        method: A name, with its options as further arguments; or a method object, such as
            `rrfast.methods.BS(budget=10)`, whose options an editor completes. Further arguments
            replace those of the object.
        full_output: Return a `RadiusResult` in place of the radius alone.
        **options: Common to all methods: `bounds`, the box that inputs are clamped to, such as (0,
            1) (default None: a straight line), and `scale`, the unit of a step (default None: 1;
            for inputs normalised by `std`, 1 / std per channel makes it a pixel radius). The
            others, with their defaults, are the fields of the classes in `rrfast.methods`.

    Returns:
        [B], float32 (float64 if `x` or the logits are), in units of `scale`. Infinity where no
        change of the prediction was found, 0 at a tie, NaN where a logit or a gradient is NaN, or
        where the largest logit is infinite (overflow). On a CPU a RuntimeWarning is raised if all
        radii are infinite because there is no gradient.

        [T, B] if `temperature` is a sequence of T numbers. They share the forward at `x`: "fast"
        then takes T + 1 forwards and T backwards.

    Raises:
        TypeError: `x` is not floating point, the model returns no logits, the method has no such
            option, or `full_output` is no bool.
        ValueError: An unknown method, logits that are not [B, K >= 2], a model that is not
            differentiable or was recorded in training mode, an option out of range, `x` outside
            `bounds`.

    Source: RAT §3, Algorithms 1 and 2; errata 1 to 8.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> x = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
        >>> radius(model, x, method="grad")  # the logits meet after half their difference
        tensor([0.5000, 0.1250])
        >>> from rrfast import methods
        >>> radius(model, x, method=methods.BS(budget=10), full_output=True).forwards
        10.0
    """
    check_bool("full_output", full_output)
    measure = configured(method, options)
    measured = measure(model, check_input(x))
    return measured.result() if full_output else measured.estimate.radius
