"""A scorer of batches for engines that spread them over machines: Ray Data, Spark."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rrfast._checks import check_pixels
from rrfast._device import chosen_device
from rrfast._errors import require
from rrfast.data.folder import read_image
from rrfast.inference.given_model import channels_of, given_model
from rrfast.inference.given_threshold import GivenThreshold, classifier_of, score_name
from rrfast.inference.inputs import check_decoding
from rrfast.inference.score_parts import NAN, tried
from rrfast.scores import Score

#: A batch of columns, or the columns of its results.
Columns = dict[str, npt.NDArray[Any]]
#: An image in the sentence about it, which must not depend on the batch that it comes in.
IT = "the image"


class Scorer:
    """Scores batches of images as `rrfast score` does, wherever an engine runs it.

    Every worker makes its own, so that only these arguments travel; they are those of
    `rrfast.inference.score`. Each image is scored by itself: the results do not depend on how an
    engine divides the images, on how often it does a batch again, or on which worker does it, up to
    rounding.

    For Ray Data it is the class that `map_batches` takes: a call adds the columns of the results to
    a batch. For Spark, `scores` is the function that `predict_batch_udf` takes, see docs/scale.md.

    Args:
        model: The folder of a training, or a specification of `rrfast.models.load_model`.
        score: A score, or a name in `rrfast.scores.SCORES`; None: that of `classifier`, or MSR.
        threshold: Accept if the score is at least this; None: that of `classifier`, or none.
        classifier: A file with the state_dict of an `rrfast.SelectiveClassifier`.
        weights: As for `rrfast.inference.score`, like the following.
        classes: Logits of the model.
        normalize: What to put in front of the model.
        trust: Whether to run code that a training's folder names.
        size: Side to which encoded images are scaled; None for their own.
        channels: Channels of encoded images, 1 or 3; None: those of the model, or 3.
        device: Default: CUDA if available.
        column: The column of a batch that has the images.

    Raises:
        OSError, TypeError, ValueError: As `rrfast.inference.score`.

    Example:
        >>> scorer = Scorer("rrfast.models:digits_cnn", score="radius_fast", threshold=0.01)
        >>> batch = {"id": np.arange(2), "image": np.random.rand(2, 1, 8, 8).astype("float32")}
        >>> sorted(scorer(batch))
        ['accept', 'error', 'id', 'image', 'prediction', 'radius_fast', 'rival']
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        score: Score | str | None = None,
        threshold: float | None = None,
        classifier: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        classes: int | None = None,
        normalize: str | None = None,
        trust: bool = False,
        size: int | None = None,
        channels: int | None = None,
        device: str | torch.device | None = None,
        column: str = "image",
    ) -> None:
        file = None if classifier is None else Path(classifier)
        GivenThreshold(threshold=threshold, classifier=file)  # raises
        check_decoding(channels, size)
        net, _ = given_model(
            os.fspath(model),
            weights=None if weights is None else os.fspath(weights),
            classes=classes,
            normalize=normalize,
            trust=trust,
        )
        self._device = chosen_device(device)
        self._classifier = classifier_of(net, score, file).to(self._device)
        if threshold is not None:
            self._classifier.threshold.fill_(threshold)
        self._decides = threshold is not None or classifier is not None
        self._size = size
        self._channels = (channels_of(net) or 3) if channels is None else channels
        self._column = column
        self._name = score_name(self._classifier.score)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> Columns:
        """The batch, with the columns of `scores`.

        Raises:
            KeyError: It has no column of images.
            TypeError, ValueError: As `scores`.
        """
        if self._column not in batch:
            raise KeyError(
                f"batch must have the column {self._column!r} of images, got {', '.join(batch)}"
            )
        return {**batch, **self.scores(batch[self._column])}

    def scores(self, images: Iterable[Any]) -> Columns:
        """Prediction and confidence of each image.

        Args:
            images: [B] encoded images, as bytes or a dict with `bytes`; or arrays, uint8 [H, W],
                [H, W, 1] or [H, W, 3], as Ray Data reads images, or floating point [C, H, W] in
                [0, 1]. They may differ in size.

        Returns:
            [B] each: `prediction` int64; `rival` int64, the class that it changes to; the score by
            its name, float64, larger = more confident; if there is a threshold `accept` int8, 1 or
            0, as Spark's `predict_batch_udf` takes no truth values; and `error`, a text. With an
            error, which is a sentence about this image, the prediction is -1, the score NaN and
            `accept` 0; the rival is -1 where none is known.

        Raises:
            ValueError: The model does not take images of such a shape.
        """
        pixels = [self._pixels(image) for image in images]
        n = len(pixels)
        found: Columns = {
            "prediction": np.full(n, -1, dtype=np.int64),
            "rival": np.full(n, -1, dtype=np.int64),
            self._name: np.full(n, np.nan, dtype=np.float64),
            **({"accept": np.zeros(n, dtype=np.int8)} if self._decides else {}),
        }
        errors = [x if isinstance(x, str) else "" for x in pixels]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for index, x in enumerate(pixels):
            if isinstance(x, Tensor):
                by_shape.setdefault(tuple(x.shape), []).append(index)
        for indices in by_shape.values():
            x = torch.stack([x for index in indices if isinstance(x := pixels[index], Tensor)])
            for name, values in self._measured(x).items():
                found[name][indices] = values
            for index in indices:
                if np.isnan(found[self._name][index]):
                    errors[index] = NAN
                    found["prediction"][index] = found["rival"][index] = -1
        return {**found, "error": np.array(errors, dtype=object)}

    def _measured(self, x: Tensor) -> Columns:
        names = ("prediction", "rival", self._name, "accept")[: 3 + self._decides]
        found = tried(self._classifier, x.to(self._device))
        return {name: value.cpu().numpy() for name, value in zip(names, found, strict=False)}

    def _pixels(self, image: Any) -> Tensor | str:
        """[C, H, W] in [0, 1], or why there are none."""
        if isinstance(image, Mapping):
            image = image.get("bytes")
        if image is None:
            return f"{IT} has no bytes"
        try:
            if isinstance(image, (bytes, bytearray, memoryview)):
                require("an encoded image", "PIL.Image", "Pillow")
                file = io.BytesIO(image)
                return read_image(file, name=IT, channels=self._channels, size=self._size)
            return _of_array(image)
        except ValueError as error:
            return str(error)


def _of_array(image: Any) -> Tensor:
    array = np.asarray(image)
    grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    if array.dtype == np.uint8 and grey_or_rgb:
        x = torch.from_numpy(np.array(array, dtype=np.float32)) / 255
        return x[None] if array.ndim == 2 else x.permute(2, 0, 1).contiguous()
    if not np.issubdtype(array.dtype, np.floating) or array.ndim != 3:
        raise ValueError(
            f"{IT} must be bytes, uint8 [H, W], [H, W, 1] or [H, W, 3], or floating point "
            f"[C, H, W], got {array.dtype} of shape {list(array.shape)}"
        )
    x = torch.from_numpy(np.array(array, dtype=np.float32))
    check_pixels(IT, x)
    return x
