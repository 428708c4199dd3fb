"""What is trained: one regime after the other, and the command for each."""

from __future__ import annotations

from typing import NamedTuple

FIRST = ("standard", "rat", "at", "mixup")
OTHERS = ("regmixup", "openmix", "reverse_at", "rat_mixup")
VARIANTS = (*FIRST, *OTHERS)
ATTACKED = ("rat", "at", "reverse_at", "rat_mixup")


class Regime(NamedTuple):
    """Trainings that differ in their objective and seed alone."""

    images: int
    epochs: int
    eps: str
    variants: tuple[str, ...] = VARIANTS
    seeds: int = 5
    kind: str = ""  #: the end of its name: what differs from the regime without it
    changes: tuple[str, ...] = ()  #: of the recipe, for that

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.images}-{self.epochs}-{self.eps}" + f"-{self.kind}" * bool(self.kind)

    @property
    def data(self) -> str:
        """All but eps and objectives: tables pair the trainings of all regimes that share it."""
        said = {"": "", "others": "", "augment": ", crops and flips", "resnet": ", ResNet-20"}
        return f"{self.images:,} × {self.epochs}{said[self.kind]}"

    @property
    def command(self) -> str:
        """What trains it."""
        changes = (
            f"data.train={self.images} training.epochs={self.epochs} objective.eps={self.eps}",
            *self.changes,
        )
        return (
            f"rrfast train fashion_rat --variants {','.join(self.variants)} --seeds {self.seeds} "
            f"--out runs/{self.name} --set {' '.join(changes)}"
        )


CROPPED = ("training.augment.padding=4",)
RESNET = ("model.name=rrfast.models:preresnet20", "model.options.channels=1")
#: From the fewest images to the most, and from few epochs to many.
REGIMES = (
    Regime(4000, 24, "1e-2"),
    Regime(4000, 24, "1e-3", ATTACKED),
    Regime(12000, 8, "1e-2"),
    Regime(12000, 8, "1e-3", ATTACKED),
    Regime(60000, 3, "1e-2"),
    Regime(60000, 3, "1e-3", ATTACKED),
    Regime(60000, 30, "1e-2", FIRST),
    Regime(60000, 30, "1e-2", OTHERS, kind="others"),
    Regime(60000, 30, "1e-3", ("rat", "at")),
    Regime(60000, 30, "1e-2", ("standard", "rat"), kind="augment", changes=CROPPED),
    Regime(4000, 24, "1e-2", FIRST, 3, "resnet", RESNET),
)
BY_NAME = {regime.name: regime for regime in REGIMES}
