"""The threshold options of `rrfast score`: a number, a target on held-out data, or a classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from rrfast._checks import as_number
from rrfast._errors import first_line
from rrfast.data.splits import Part
from rrfast.data.tasks import TASKS
from rrfast.inference.inputs import Shape
from rrfast.scores import DEFAULT, SCORES, Preprocessed, Score, as_score
from rrfast.scores.registry import STEP
from rrfast.selective import SelectiveClassifier

if TYPE_CHECKING:
    from rrfast.train.recipe_file import Recipe

AIMS = ("coverage", "reject_errors", "target_risk")


@dataclass(frozen=True, kw_only=True)
class GivenThreshold:
    """The threshold options: none or one of five; without one, nothing is accepted or rejected.

    Attributes:
        threshold: Accept if the score is at least this.
        coverage, reject_errors, target_risk, confidence: As for `SelectiveClassifier.fit`, on the
        validation split of the model's training.
        classifier: A file with the state_dict of a `SelectiveClassifier`.

    Raises:
        TypeError, ValueError: `threshold` is not a number, more than one is given, or `confidence`
            is given without `target_risk`.
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
            raise ValueError("confidence needs target_risk: it belongs to a bound on the risk")
        if self.threshold is not None and math.isnan(as_number("threshold", self.threshold)):
            raise ValueError("threshold must be a number, got NaN, which accepts nothing")

    @property
    def aim(self) -> dict[str, Any]:
        """The target to pass to `SelectiveClassifier.fit`; {} for none."""
        values = {name: getattr(self, name) for name in (*AIMS, "confidence")}
        return {name: value for name, value in values.items() if value is not None}

    def check_recipe(self, recipe: Recipe | None, folder: Path, *, trust: bool) -> None:
        """Raise a ValueError if there is a target but no training data to choose the threshold on.

        It is also raised if the folder's data is foreign code, unless `trust` is set.
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
        """Raise a ValueError if the threshold was chosen on inputs of another shape."""
        if self.classifier is not None:
            _check_shape(f"of {self.classifier}", classifier.provenance.get("shape"), shape)

    def pinned(self) -> dict[str, Any]:
        """The options that identify it, for JSON; the content of a file is pinned elsewhere."""
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
        """The threshold for JSON: its digits (None for none), a sentence, and the provenance.

        For a target the classifier is fitted, which takes the score for each image of the
        validation split; `weights` are "last" or "best".

        Raises:
            TypeError, ValueError: As for `SelectiveClassifier.fit`; there is no validation split,
                or its images have another `shape`.
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
        # As text, because standard JSON has no infinity.
        said = repr(float(value))
        return {"threshold": said, "how": how, "provenance": classifier.provenance}


def classifier_of(
    model: nn.Module, score: Score | str | None, path: str | Path | None
) -> SelectiveClassifier:
    """The classifier of a file, or one with the score, MSR by default, and no threshold.

    Raises as `load_classifier`, and for a score that must be fitted or tuned first.
    """
    if path is not None:
        return load_classifier(path, model, score)
    given = as_score(DEFAULT if score is None else score)
    untuned = isinstance(score, str) and isinstance(given, Preprocessed)  # its step is 0
    if untuned or not given.fitted:
        first, do = ("tuned on", "tune") if given.fitted else ("fitted to", "fit")
        raise ValueError(
            f"score {score_name(given)} must be {first} labelled data first: {do} it in Python, "
            "and pass it, or a SelectiveClassifier that was saved with it"
        )
    return SelectiveClassifier(model, given)


def load_classifier(
    path: str | Path, model: nn.Module, score: Score | str | None = None
) -> SelectiveClassifier:
    """A `SelectiveClassifier` from the file of its state_dict, with the weights of the file.

    `score` is the expected kind of score, None for any; one of the user's own class must be given.
    The file is of `torch.save`, or safetensors if it ends in .safetensors.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: It is .safetensors, but safetensors is not installed.
        ValueError: It is not such a state, is of another model or score, or has no threshold.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"classifier must be a file that SelectiveClassifier.save wrote, got {path}"
        )
    # The name is only compared: that of RelU is of a score that was not fitted.
    built = {"score": score} if isinstance(score, Score) else {}
    try:
        classifier = SelectiveClassifier.load(path, model, **built)
    except RuntimeError as error:
        first = first_line(error)
        raise ValueError(f"classifier must be of this model, but {path} is not: {first}") from error
    if score is not None:
        # Loading replaced the score: the threshold belongs to the file's score only.
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
    """The name of a score in `SCORES`, or with `STEP` behind it; that of its class for any other.

    Example:
        >>> from rrfast.scores import MSR, Preprocessed, Radius
        >>> [score_name(s) for s in (MSR(2.0), Radius("grad"), Preprocessed(MSR(), 0.01))]
        ['msr', 'radius_grad', 'msr+eps']
    """
    if isinstance(score, Preprocessed):
        return score_name(score.score) + STEP
    kind = (type(score), getattr(score, "method", None))
    for name, known in SCORES.items():
        if (type(known), getattr(known, "method", None)) == kind:
            return name
    return type(score).__name__.lower()


def training_size(recipe: Recipe | None) -> int | None:
    """Side in pixels to which a training on a folder of images scaled them; None for any other.

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
        f"the threshold {whose} was chosen on images of shape {list(chosen_on)}, and the images "
        f"to score have {list(shape)}, for which it promises nothing. Scale the images of a folder "
        "with --size, or give a --threshold"
    )


def _fit(
    classifier: SelectiveClassifier,
    recipe: Recipe,
    aim: dict[str, Any],
    weights: str,
    shape: Shape | None,
) -> str:
    """Fit, and return a sentence that says how."""
    from rrfast.train.recipe import make_task

    validation = make_task(recipe).validation
    if validation is None:
        raise ValueError(
            f"{next(iter(aim))} needs a validation split, and the data of the training has none: "
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
        # A bound only holds for data on which nothing else was chosen.
        + ". best.pt was chosen on these images too, so no confidence holds"
        * (weights == "best" and "confidence" in aim)
    )
