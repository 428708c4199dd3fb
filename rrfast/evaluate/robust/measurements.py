"""Measurements on an attacked model: the test images that it still classifies correctly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rrfast import ops
from rrfast._processes import shared
from rrfast._seeds import Stream, derive_seed
from rrfast.attacks import ATTACKS, PGD, Square, beyond_gradients, sanity
from rrfast.data.splits import Part
from rrfast.engine import logits
from rrfast.objectives import incorrect_rate_correlation

if TYPE_CHECKING:
    from rrfast.attacks import Attack

#: Forwards of the Square attack that looks for errors that gradients miss; PGD with as many steps
#: takes twice as many passes.
QUERIES = 100


class AttackedModel(NamedTuple):
    """A model and the images to attack."""

    model: nn.Module
    part: Part
    right: Tensor  #: [n] bool, on the CPU: classified correctly before the attack
    seed: int
    device: torch.device


def made(name: str, eps: float, steps: int) -> Attack:
    """The attack of that name; `steps` is for PGD if its name leaves the number open."""
    factory = ATTACKS[name]
    return factory(eps=eps, steps=steps) if stepped(name) else factory(eps=eps)


def stepped(name: str) -> bool:
    """Whether the attack takes its number of steps from the options."""
    factory = ATTACKS[name]
    bound: dict[str, object] = getattr(factory, "keywords", {})
    return getattr(factory, "func", factory) is PGD and "steps" not in bound


def withstands(attack: Attack, on: AttackedModel, batch: int) -> Tensor:
    """[n] bool, on the CPU: classified correctly before and after the attack.

    Only correctly classified images are attacked: an error needs no attack, since the ball contains
    the image itself.

    Cost: the attack, for each correctly classified image.
    """
    right = on.right.nonzero().squeeze(1)

    def one(i: int, batch: tuple[Tensor, Tensor]) -> Tensor:
        return attack(on.model, *batch, generator=_generator(on, i)).wrong

    wrong = shared(one, Part(on.part.data, on.part.indices[right]).batches(batch, on.device))
    left = on.right.clone()
    if wrong:
        left[right] = ~torch.cat(wrong).cpu()
    return left


def doubts(on: AttackedModel, batch: int) -> list[str]:
    """Reasons to doubt attacks by gradients on this model, from one correctly classified batch.

    Cost: 2 forwards, 1 backward for each image of the batch.
    """
    right = on.part.indices[on.right][:batch]
    batches = Part(on.part.data, right).batches(batch, on.device)
    return [sentence for x, y in batches for sentence in sanity(on.model, x, y)]


def misled(on: AttackedModel, stood: Tensor, eps: float, batch: int) -> list[str]:
    """Whether a few queries find errors that attacks by gradients missed, on one batch.

    `stood` are the images that are right after all attacks by gradients with radius `eps`. Inputs
    that are not images are not tested: Square does not take them.

    Cost: `QUERIES` forwards for each image of the batch.
    """
    if on.part.data[0][0].dim() != 3:
        return []
    places = on.part.indices[stood][:batch]
    left = torch.ones(len(places), dtype=torch.bool)
    part = Part(on.part.data, places)
    after = ~withstands(Square(eps, QUERIES), on._replace(part=part, right=left), batch)
    return beyond_gradients(~left, after)


#: Number of images whose points a figure shows.
SHOWN = 200


def margins(on: AttackedModel, eps: float, batch: int) -> dict[str, Any]:
    """The quantities behind IRAT's margin, for the images before and after PGD-10.

    Returns `r` of 1 - p_y and c, before and after (Eq. 23), None if it is undefined, for instance
    if c is the same for all; `points`, before and after: the `true` probability p_y, the `margin` m
    and the `similarity` c of the first `SHOWN` images; `examples`, the least and the most certain
    of those before the attack: all probabilities `p`, the label `y` and c. Rounded to four digits,
    except r.

    Cost: 12 forwards and 10 backwards for each image.
    """
    attack = PGD(eps=eps, steps=10, keep="last")

    def one(i: int, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        x, y = batch
        moved = attack(on.model, x, y, generator=_generator(on, i)).x
        return logits(on.model, x), logits(on.model, moved), y

    parts = zip(*shared(one, on.part.batches(batch, on.device)), strict=True)
    *both, labels = (torch.cat(part).to(on.device) for part in parts)
    r = [incorrect_rate_correlation(h, labels) for h in both]
    shown, points = slice(SHOWN), []
    for h in both:
        p = h[shown].double().softmax(dim=1)
        margin, _, similarity, _ = ops.probability_margin(h[shown].double(), labels[shown])
        true = p.gather(1, labels[shown, None]).squeeze(1)
        columns = {"true": true, "margin": margin, "similarity": similarity}
        points.append({name: _rounded(column) for name, column in columns.items()})
    p = both[0][shown].double().softmax(dim=1)
    sure = p.amax(dim=1)
    examples = [
        {"p": _rounded(p[i]), "y": int(labels[i]), "similarity": points[0]["similarity"][i]}
        for i in (int(sure.argmin()), int(sure.argmax()))
    ]
    return {
        "r": [None if value.isnan() else value.item() for value in r],
        "points": points,
        "examples": examples,
    }


def _rounded(values: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else round(value, 4) for value in values.tolist()]


def _generator(on: AttackedModel, batch: int) -> torch.Generator:
    """For an attack on this batch, whichever process does it."""
    return torch.Generator(on.device).manual_seed(derive_seed(on.seed, Stream.ATTACK, batch))


def packed(stood: Tensor) -> str:
    """Bits as text, eight bits in two hexadecimal digits.

    Example:
        >>> packed(torch.tensor([True, False, False, False, False, False, False, True, True]))
        '8180'
    """
    return np.packbits(stood.numpy()).tobytes().hex()


def unpacked(text: str, images: int) -> Tensor:
    """[images] bool, the inverse of `packed`.

    Example:
        >>> unpacked("8180", 9).nonzero().squeeze(1)
        tensor([0, 7, 8])
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=images)
    return torch.from_numpy(bits).bool()
