"""What is trained: one regime after the other, and the command for each."""

from __future__ import annotations

from typing import NamedTuple

VARIANTS = ("standard", "rat", "at", "mixup", "regmixup", "openmix", "reverse_at", "rat_mixup")
ATTACKED = ("rat", "at", "reverse_at", "rat_mixup")


class Regime(NamedTuple):
    """Trainings that differ in their objective and seed alone."""

    images: int
    epochs: int
    eps: str
    variants: tuple[str, ...] = VARIANTS
    seeds: int = 5
    kind: str = ""  #: of the network or of what its images go through; "" is the recipe's
    changes: tuple[str, ...] = ()  #: of the recipe, for that

    @property
    def name(self) -> str:
        """Of its folder."""
        said = f"{self.images}-{self.epochs}-{self.eps}"
        return {"": said, "augment": f"{said}-augment"}.get(self.kind, f"{self.kind}-{said}")

    @property
    def data(self) -> str:
        """All but eps: regimes that only differ there share their trainings without an attack."""
        kind = {"": "", "augment": ", crops and flips", "resnet": ", ResNet-20"}[self.kind]
        return f"{self.images:,} × {self.epochs}{kind}"

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


RESNET = ("model.name=rrfast.models:preresnet20", "model.options.channels=1")
#: From the fewest images to the most, and from few epochs to many.
REGIMES = (
    Regime(4000, 24, "1e-2"),
    Regime(4000, 24, "1e-3", ATTACKED),
    Regime(12000, 8, "1e-2"),
    Regime(12000, 8, "1e-3", ATTACKED),
    Regime(60000, 3, "1e-2"),
    Regime(60000, 3, "1e-3", ATTACKED),
    Regime(60000, 30, "1e-2"),
    Regime(60000, 30, "1e-3", ("rat", "at")),
    Regime(60000, 30, "1e-2", ("standard", "rat"), 5, "augment", ("training.augment.padding=4",)),
    Regime(4000, 24, "1e-2", ("standard", "rat", "at", "mixup"), 3, "resnet", RESNET),
)
