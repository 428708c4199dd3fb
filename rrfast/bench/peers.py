"""`rrfast bench --peers`: attack libraries on the same images, beside our methods.

Each finds a near point of another class by its own attack. Its radius is the distance of that point
in the maximum norm, and infinite where the prediction there is the same. All stay in the box
[0, 1], which most of these libraries assume.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from rrfast._errors import first_line
from rrfast._turns import Timed
from rrfast.bench import contestants
from rrfast.bench.contestants import Contestant, Outcome
from rrfast.bench.settings import Settings
from rrfast.bench.subject import Subject
from rrfast.engine import output_logits

#: Maps a model, images and their predictions to near points of other classes.
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
BOX = (0.0, 1.0)
#: Steps of FAB, of FMN and of DeepFool, here and there.
STEPS = 10
#: The finest difference of captum's radii, its `arg_step`.
FINEST = 2.0**-13


def _adv_lib() -> dict[str, Attack]:
    from adv_lib.attacks import fab, fmn

    return {
        "FAB": lambda model, x, y: fab(model, x, y, norm=math.inf, n_iter=STEPS),
        "FMN": lambda model, x, y: fmn(model, x, y, norm=math.inf, steps=STEPS),
    }


def _torchattacks() -> dict[str, Attack]:
    from torchattacks import FAB

    def fab(model: nn.Module, x: Tensor, y: Tensor) -> Any:
        classes = output_logits(model(x[:1])).shape[1]
        return FAB(model, steps=STEPS, eps=1.0, n_classes=classes)(x, y)

    return {"FAB": fab}


def _autoattack() -> dict[str, Attack]:
    from autoattack.fab_pt import FABAttack_PT

    def fab(model: nn.Module, x: Tensor, y: Tensor) -> Any:
        return FABAttack_PT(model, n_iter=STEPS, eps=1.0, device=x.device).perturb(x, y)

    return {"FAB": fab}


def _foolbox() -> dict[str, Attack]:
    import foolbox

    def attack(made: Any, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        there = foolbox.PyTorchModel(model, bounds=BOX, device=x.device)
        return made(there, x, y, epsilons=None)[0]

    return {
        "DeepFool": partial(attack, foolbox.attacks.LinfDeepFoolAttack(steps=STEPS)),
        "FMN": partial(attack, foolbox.attacks.LInfFMNAttack(steps=STEPS)),
    }


def _captum() -> dict[str, Attack]:
    from captum.robust import FGSM, MinParamPerturbation

    def search(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        step = FGSM(model, nn.CrossEntropyLoss(reduction="none"), *BOX)
        search = MinParamPerturbation(model, step, "epsilon", 0.0, 1.0, FINEST, mode="binary")
        points = []
        for one, label in zip(x.split(1), y.split(1), strict=True):  # it takes one at a time
            point, _ = search.evaluate(one, target=label, attack_kwargs={"target": label})
            points.append(one if point is None else point)
        return torch.cat(points)

    return {"search by FGSM": search}


#: For each package a function that makes its attacks; it raises if the package does not import.
PEERS: dict[str, Callable[[], dict[str, Attack]]] = {
    "adv-lib": _adv_lib,
    "torchattacks": _torchattacks,
    "autoattack": _autoattack,
    "foolbox": _foolbox,
    "captum": _captum,
}


def check_in_box(x: Tensor) -> None:
    """Raise a ValueError unless all images lie in the box that the peers assume."""
    least, most = x.amin().item(), x.amax().item()
    if not (least >= BOX[0] and most <= BOX[1]):
        raise ValueError(
            "data must be images in [0, 1] with --peers, because the libraries assume it, got "
            f"values from {least:g} to {most:g}; put a normalisation into the model, or give "
            "--normalize"
        )


def peers(
    subject: Subject, settings: Settings, progress: Callable[[str, float], object]
) -> list[dict[str, Any]]:
    """One row per contestant: passes, times in turns, and how short its radii are.

    The images are those of the largest batch. `beside_shortest` is the median over them of the
    radius over the shortest one that any contestant saw to change the prediction.
    """
    x = subject.x[: max(settings.batch)]
    every, missing = _everyone(subject.model, settings)
    try:
        named = {" ".join(key): run for key, run in every.items()}
        timed = contestants.in_turn(subject.model, x, named, settings.seconds, progress)
    finally:
        subject.model.zero_grad()  # some of them leave gradients at the weights
    times = dict(zip(every, timed.values(), strict=True))
    firsts: list[Outcome] = [t.first for t in times.values() if not t.error]
    seen = [first.upper.cpu() for first in firsts if first.upper is not None]
    shortest = torch.stack(seen).amin(dim=0) if seen else x.new_full((len(x),), math.inf).cpu()
    rows = [
        {"library": library, "version": _version(library), "method": name, **_row(t, shortest)}
        for (library, name), t in times.items()
    ]
    return rows + missing


def _everyone(
    model: nn.Module, settings: Settings
) -> tuple[dict[tuple[str, str], Contestant], list[dict[str, Any]]]:
    """All contestants by library and name, and a row for each library that does not import."""
    steps = {"fab": {"steps": STEPS}, "fmn": {"steps": STEPS}}
    every: dict[tuple[str, str], Contestant] = {
        ("rrfast", name): contestants.method(model, name, bounds=BOX, **steps.get(name, {}))
        for name in settings.contestants()
    }
    every["released code", "loop"] = contestants.naive_loop(model, BOX)
    missing = []
    for library, made in PEERS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old code in a new Python
                attacks = made()
        except Exception as error:  # noqa: BLE001 - a foreign package may raise any error
            row = {"library": library, "version": "", "method": "does not import"}
            missing.append({**row, "error": first_line(error)})
            continue
        every |= {(library, name): _Peer(model, attack) for name, attack in attacks.items()}
    return every, missing


class Counted(nn.Module):
    """A model that counts the samples that pass through it, forwards and backwards.

    Example:
        >>> import torch
        >>> counted, x = Counted(nn.Linear(4, 3)), torch.rand(2, 4, requires_grad=True)
        >>> counted(x).sum().backward()
        >>> counted.forwards, counted.backwards
        (2, 2)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Any:  # noqa: D102
        self.forwards += len(x)
        if x.requires_grad:
            x = x.view_as(x)  # so that the hook belongs to this pass alone
            x.register_hook(self._count)
        return self.model(x)

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@dataclass(eq=False)
class _Peer:
    """An attack as a contestant. Its first call counts passes, later ones take their time only."""

    model: nn.Module
    attack: Attack
    passes: tuple[float, float] | None = None

    def __call__(self, x: Tensor) -> Outcome:
        model = Counted(self.model).eval() if self.passes is None else self.model
        with torch.no_grad():
            prediction = output_logits(model(x)).argmax(dim=1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.attack(model, x, prediction).detach()
        except RuntimeError:
            raise
        except Exception as error:  # `Turns` reports only a RuntimeError
            raise RuntimeError(f"{type(error).__name__}: {first_line(error)}") from error
        if isinstance(model, Counted):
            self.passes = model.forwards / len(x), model.backwards / len(x)
        assert self.passes is not None
        with torch.no_grad():
            same = output_logits(self.model(found)).argmax(dim=1) == prediction
        radius = (found - x).flatten(1).abs().amax(dim=1).masked_fill(same, math.inf)
        return Outcome(radius, prediction, *self.passes, radius)


def _row(timed: Timed, shortest: Tensor) -> dict[str, Any]:
    if timed.error:
        return {"error": timed.error}
    radius: Tensor = timed.first.score.cpu()
    both = radius.isfinite() & shortest.isfinite() & (shortest > 0)
    ratio = (radius.double() / shortest)[both]
    return {
        "error": None,
        **contestants.timed(timed, len(radius)),
        "median_radius": radius.median().item(),
        "found": float(radius.isfinite().float().mean()),
        "beside_shortest": ratio.median().item() if len(ratio) else None,
    }


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
