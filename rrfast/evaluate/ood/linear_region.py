"""Linear regions of a ReLU network: at an input, and at the end of a ray (ACET, Lemma 3.1)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rrfast.engine import check_input
from rrfast.models import Normalize

#: Layers that are affine in eval mode.
AFFINE = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Flatten, nn.Unflatten, nn.Identity),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Dropout, nn.Dropout2d, nn.ZeroPad2d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    Normalize,
)
#: Layers that are affine on either side of 0.
KINKED = (nn.ReLU, nn.LeakyReLU)


class LinearRegion(NamedTuple):
    """A region Q on which a network is affine: f(z) = V z + a for all z in Q."""

    slope: Tensor  #: V, [B, K, d]
    offset: Tensor  #: a, [B, K]
    normals: Tensor  #: [B, N, d], normals of the N half-spaces whose intersection is Q
    distances: Tensor  #: [B, N]: z is in Q if normals z + distances >= 0

    def contains(self, z: Tensor) -> Tensor:
        """Whether each z [B, ...] is in Q, [B] bool; a border belongs to both sides."""
        return (_times(self.normals, z) + self.distances >= 0).all(dim=1)

    def logits(self, z: Tensor) -> Tensor:
        """The affine function at z [B, ...]: [B, K]. It equals the network if `contains(z)`."""
        return _times(self.slope, z) + self.offset


class LastRegion(NamedTuple):
    """The last linear region of a ray: f(b x) = b slope + offset for all b >= alpha."""

    alpha: Tensor  #: [B], >= 0: for b >= alpha, all b x are in one linear region
    slope: Tensor  #: V x, [B, K]
    offset: Tensor  #: a, [B, K]


def linear_region(model: nn.Module, x: Tensor) -> LinearRegion:
    """The affine function of a ReLU network at an input, and the region where it holds.

        V = W^(L+1) prod_l S^(l) W^(l),    Q(x) = {z : D^(l) (V^(l) z + a^(l)) >= 0 for all l}

    with S^(l) and D^(l) the slopes and signs of the units of layer l at x. A unit that is exactly
    0, on a border, counts as off and does not bound the region.

    Args:
        model: Nested `nn.Sequential` of layers in `AFFINE` and `KINKED`; convolutions are affine.
            Its eval mode is analysed; the model is not changed.
        x: [B, ...], floating point, of the dtype of the model.

    Returns:
        LinearRegion(slope, offset, normals, distances), with d inputs and N hidden units.

    Raises:
        TypeError: A layer is of another type, or `x` is not floating point.

    Cost: One forward of d + 2 inputs for each x, and d + 2 times the memory of its activations.

    Source: ACET, Section 2 and App. D.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> x = torch.rand(4, 3)
        >>> region = linear_region(model, x)
        >>> bool(region.contains(x).all()), torch.allclose(region.logits(x), model(x), atol=1e-5)
        (True, True)
    """
    x = check_input(x)
    d = x.flatten(1).shape[1]
    basis = torch.eye(d, dtype=x.dtype, device=x.device).reshape(d, *x.shape[1:])
    normals, distances = [], []

    def sign_at_x(slope: Tensor, offset: Tensor) -> Tensor:
        sign = (_times(_columns_last(slope), x) + offset.flatten(1)).sign()
        normals.append(sign[:, :, None] * _columns_last(slope))
        distances.append(sign * offset.flatten(1))
        return sign.reshape(offset.shape)

    columns = basis.expand(len(x), *basis.shape)
    slope, offset = _pushed(model, columns, torch.zeros_like(x), sign_at_x)
    return LinearRegion(
        _columns_last(slope),
        offset,
        torch.cat([x.new_zeros(len(x), 0, d), *normals], dim=1),
        torch.cat([x.new_zeros(len(x), 0), *distances], dim=1),
    )


def last_region(model: nn.Module, x: Tensor) -> LastRegion:
    """The last linear region of the ray from 0 through x, and the factor where it begins.

    There are finitely many regions, each convex, so for some alpha all b x with b >= alpha lie in
    one region (Lemma 3.1). For large b, a unit b u + c is on if u > 0, or if u = 0 and c > 0. So u
    and c are passed through the network layer by layer, without visiting the regions on the way;
    alpha is the largest b at which a unit is 0. If one class has the largest V x, its confidence
    tends to 1, which is Theorem 3.1.

    Args:
        model: As for `linear_region`.
        x: As for `linear_region`. Use float64: if x does not change a unit, a rounding error may
            seem to change it, and alpha becomes very large.

    Returns:
        LastRegion(alpha, slope, offset).

    Raises:
        TypeError: As for `linear_region`.

    Cost: One forward of 3 inputs for each x.

    Source: ACET, Lemma 3.1 and the proof of Theorem 3.1.

    Example:
        >>> model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
        >>> for layer in (model[0], model[2]):
        ...     _ = nn.init.ones_(layer.weight), nn.init.constant_(layer.bias, -3.0)
        >>> last_region(model, torch.tensor([[1.0], [-1.0]]))[:2]  # on from 3, or off everywhere
        (tensor([3., 0.]), tensor([[1., 1.],
                [0., 0.]]))
    """
    x = check_input(x)
    alpha = x.new_zeros(len(x))

    def sign_far_out(slope: Tensor, offset: Tensor) -> Tensor:
        nonlocal alpha
        u, c = slope[:, 0].flatten(1), offset.flatten(1)
        turns = torch.where(u * c < 0, -c / torch.where(u == 0, 1.0, u), 0.0)
        if turns.shape[1]:
            alpha = torch.maximum(alpha, turns.amax(dim=1))
        return torch.where(u == 0, c, u).sign().reshape(offset.shape)

    slope, offset = _pushed(model, x[:, None], torch.zeros_like(x), sign_far_out)
    return LastRegion(alpha, slope[:, 0], offset)


#: Maps slopes [B, m, ...] and offsets [B, ...] of units to the signs of the units [B, ...].
_Sign = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def _pushed(model: nn.Module, slope: Tensor, offset: Tensor, sign: _Sign) -> tuple[Tensor, Tensor]:
    """The map t -> sum_j t_j slope_j + offset passed through the network: [B, m, K] and [B, K]."""
    for layer in _layers(copy.deepcopy(model).eval()):
        if isinstance(layer, KINKED):
            below = layer.negative_slope if isinstance(layer, nn.LeakyReLU) else 0.0
            off = offset.new_full(offset.shape, below)  # in its dtype: 0.1 differs in float32
            factor = off.masked_fill(sign(slope, offset) > 0, 1.0)
            slope, offset = slope * factor[:, None], offset * factor
        else:
            zero = layer(torch.zeros_like(offset[:1]))
            columns = layer(slope.flatten(0, 1)) - zero
            slope = columns.reshape(*slope.shape[:2], *columns.shape[1:])
            offset = layer(offset)
    return slope, offset


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    if type(model) is nn.Sequential:
        for part in model:
            yield from _layers(part)
    elif type(model) in (*AFFINE, *KINKED):
        yield model
    else:
        raise TypeError(
            "model must be nested nn.Sequential of ReLU, LeakyReLU and affine layers, as of no "
            f"other the linear regions are known here; got {type(model).__name__}"
        )


def _columns_last(slope: Tensor) -> Tensor:
    """[B, d, ...] as [B, units, d]."""
    return slope.flatten(2).transpose(1, 2)


def _times(matrix: Tensor, z: Tensor) -> Tensor:
    """[B, n, d] times [B, ...] of d elements: [B, n]."""
    return (matrix @ z.flatten(1)[:, :, None])[:, :, 0]
