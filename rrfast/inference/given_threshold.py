"""The threshold options of `rrfast score`: a number, an aim on held-out data, or a classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from rrfast._checks import is_number
from rrfast._errors import first_line
from rrfast.data.splits import Part
from rrfast.data.tasks import TASKS
from rrfast.inference.inputs import Shape
from rrfast.scores import SCORES, Score
from rrfast.selective import SelectiveClassifier

if TYPE_CHECKING:
    from rrfast.train.recipe_file import Recipe

AIMS = ("coverage", "reject_errors", "target_risk")


@dataclass(frozen=True, kw_only=True)
class GivenThreshold:
    """What was asked for; nothing, or one of five, and nothing is accepted or rejected without.

    Attributes:
        threshold: Accept from this score on.
        coverage, reject_errors, target_risk, confidence: As of `SelectiveClassifier.fit`, on the
            validation split of the training that the model is from.
        classifier: A file with the state_dict of a `SelectiveClassifier`.

    Raises:
        TypeError, ValueError: `threshold` is no number, more than one is given, or `confidence`
            without `target_risk`.
    """

    threshold: float | None = None
    coverage: float | None = None
    reject_errors: float | None = None
    target_risk: float | None = None
    confidence: float | None = None
    classifier: str | Path | None = None

    def __post_init__(self) -> None:
        names = ("threshold", *AIMS, "classifier")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"at most one of {', '.join(names)} is possible, got {given}")
        if self.confidence is not None and self.target_risk is None:
            raise ValueError("confidence needs target_risk: it is that of a bound on the risk")
        if self.threshold is not None and not is_number(self.threshold):
            raise TypeError(f"threshold must be a number, got {self.threshold!r}")
        if self.threshold is not None and math.isnan(self.threshold):
            raise ValueError("threshold must be a number, got NaN, which accepts nothing")

    @property
    def aim(self) -> dict[str, Any]:
        """What `SelectiveClassifier.fit` is to be asked; {} for nothing."""
        values = {name: getattr(self, name) for name in (*AIMS, "confidence")}
        return {name: value for name, value in values.items() if value is not None}

    def check_recipe(self, recipe: Recipe | None, folder: Path, *, trust: bool) -> None:
        """Raise a ValueError if there is an aim, and no data of a training to meet it on.

        Nor are data made that the folder names as somebody's code, unless `trust` says so.
        """
        if self.aim and recipe is not None and not trust:
            from rrfast.train.recipe import RECIPE, check_own_data

            check_own_data(recipe, folder / RECIPE)
        if self.aim and recipe is None:
            raise ValueError(
                f"{next(iter(self.aim))} needs the validation split of a training: the model must "
                "be the folder of one. For another model give a threshold or a classifier"
            )

    def check_shape(self, classifier: SelectiveClassifier, shape: Shape | None) -> None:
        """Raise a ValueError if a file's threshold was chosen on inputs of another shape."""
        if self.classifier is not None:
            _check_shape(f"of {self.classifier}", classifier.provenance.get("shape"), shape)

    def pinned(self) -> dict[str, Any]:
        """What tells it from another one, for JSON; a file by what it holds, which is not here."""
        if self.classifier is not None:
            return {"classifier": True}
        return self.aim if self.threshold is None else {"threshold": repr(float(self.threshold))}

    def choose(
        self,
        classifier: SelectiveClassifier,
        recipe: Recipe | None,
        weights: str,
        shape: Shape | None,
    ) -> dict[str, Any]:
        """The threshold, for JSON: its digits (None for none), a sentence, and the provenance.

        Args:
            classifier: On its device; `fit` is called for an aim.
            recipe: Of the training the model is from, for an aim.
            weights: "last" or "best" of it.
            shape: Of an image that is to be accepted or not; None where there is none.

        Raises:
            TypeError, ValueError: As `SelectiveClassifier.fit`; there is no validation split, or
                its images have another shape.

        Cost: for an aim, that of the score for each image of the validation split.
        """
        how = ""
        if self.threshold is not None:
            how = "as given"
        elif self.classifier is not None:
            how = f"of {self.classifier}"
            if classifier.provenance and not classifier.intact():
                how += ", which was chosen for other weights than it holds"
        elif self.aim:
            assert recipe is not None
            how = _fit(classifier, recipe, self.aim, weights, shape)
        else:
            return {"threshold": None, "how": "none was asked for", "provenance": {}}
        value = classifier.threshold if self.threshold is None else self.threshold
        # As text: JSON as it is read elsewhere has no infinity.
        return {
            "threshold": repr(float(value)),
            "how": how,
            "provenance": classifier.provenance,
        }


def load_classifier(
    path: str | Path, model: nn.Module, score: Score | str | None = None
) -> SelectiveClassifier:
    """A `SelectiveClassifier` from the file of its state_dict.

    Args:
        path: As `torch.save` wrote it, or safetensors if it ends in .safetensors.
        model: Gets the weights of the file.
        score: What the file's is to be, by its kind; one of a class of your own must be given. None
            for whatever it is.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: It is .safetensors, and safetensors is not installed.
        ValueError: It is no such state, of another model or another score, or has no threshold.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"classifier must be a file that SelectiveClassifier.save wrote, got {path}"
        )
    # A name is only to be compared: RelU's is of a score that nothing was fitted to.
    built = {"score": score} if isinstance(score, Score) else {}
    try:
        classifier = SelectiveClassifier.load(path, model, **built)
    except RuntimeError as error:
        first = first_line(error)
        raise ValueError(f"classifier must be of this model, but {path} is not: {first}") from error
    if score is not None:
        # Loading has replaced it: the threshold is that of the file's score alone.
        wanted = score if isinstance(score, str) else score_name(score)
        if score_name(classifier.score) != wanted:
            raise ValueError(
                f"score must be that of the classifier, {score_name(classifier.score)} in {path}, "
                f"got {wanted}: leave it out"
            )
    if classifier.threshold.isnan():
        raise ValueError(f"classifier {path} has no threshold: fit it before it is saved")
    return classifier


def score_name(score: Score) -> str:
    """What `SCORES` calls a score of this kind; the name of its class if nothing.

    Example:
        >>> from rrfast.scores import MSR, Preprocessed, Radius
        >>> [score_name(s) for s in (MSR(2.0), Radius("grad"), Preprocessed(MSR(), 0.01))]
        ['msr', 'radius_grad', 'preprocessed']
    """
    kind = (type(score), getattr(score, "method", None))
    for name, known in SCORES.items():
        if (type(known), getattr(known, "method", None)) == kind:
            return name
    return type(score).__name__.lower()


def training_size(recipe: Recipe | None) -> int | None:
    """Side in pixels that a training on a folder of images scaled them to; None of any other.

    Example:
        >>> from rrfast.train import load_recipe
        >>> training_size(load_recipe("digits_rat"))
    """
    if recipe is None or recipe.data.get("name") != "image_folder":
        return None
    size: int = recipe.data.get("size", signature(TASKS["image_folder"]).parameters["size"].default)
    return size


def _check_shape(whose: str, chosen_on: Sequence[int] | None, shape: Shape | None) -> None:
    if chosen_on is None or shape is None or tuple(chosen_on) == tuple(shape):
        return
    raise ValueError(
        f"the threshold {whose} was chosen on images of shape {list(chosen_on)}, and those to be "
        f"scored have {list(shape)}: what it promises holds for its own shape alone. Scale the "
        "images of a folder with --size, or give a --threshold of your own"
    )


def _fit(
    classifier: SelectiveClassifier,
    recipe: Recipe,
    aim: dict[str, Any],
    weights: str,
    shape: Shape | None,
) -> str:
    """Fit, and say how."""
    from rrfast.train.recipe import make_task

    validation = make_task(recipe).validation
    if validation is None:
        raise ValueError(
            f"{next(iter(aim))} needs a validation split, and the data of the training have none: "
            f"{recipe.data}"
        )
    _check_shape("for " + next(iter(aim)), validation[0][0].shape, shape)
    batches = Part.whole(validation).batches(
        recipe.training.validation_batch, classifier.threshold.device, recipe.training.workers
    )
    classifier.fit(batches, **aim)
    told = classifier.provenance
    asked = ", ".join(f"{name} {value:g}" for name, value in aim.items())
    return (
        f"{asked}, on the {told['samples']} images of the validation split; there it accepts "
        f"{100 * told['coverage']:.4g} %, of which {100 * told['risk']:.4g} % are wrong"
        # What a bound promises, it promises of data that nothing else was chosen on.
        + ". best.pt was chosen on these images too, so no confidence holds"
        * (weights == "best" and "confidence" in aim)
    )
