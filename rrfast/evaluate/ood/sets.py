"""The out-of-distribution sets, by name.

`OUTSIDE` lists them; a new one needs a function and a line there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rrfast._checks import check_number, check_one_of, words_of
from rrfast._processes import shared
from rrfast._seeds import Stream, derive_seed
from rrfast.attacks import PGD
from rrfast.data import (
    Split,
    gaussian_noise,
    random_crops,
    random_textures,
    resized,
    sample_photos,
    smoothed_noise,
    uniform_noise,
)
from rrfast.data.fingerprint import of_data, of_files
from rrfast.data.folder import image_files
from rrfast.data.loader import Data, length
from rrfast.data.own_data import check_data_name, runs_foreign_data
from rrfast.data.splits import Part

#: Radius of ACET's adversarial noise, and of its adversarial samples (0.3 on MNIST).
NOISE_EPS, SAMPLE_EPS = 0.3, 0.1
#: Steps of both attacks, each of eps / 40.
NOISE_STEPS, SAMPLE_STEPS, STEP = 200, 80, 1 / 40
#: Data whose name covers several sets, chosen by an option: waves, letters or digits, folders. A
#: function of the user's counts as such too.
SEVERAL = ("synthetic", "emnist", "image_folder")


class Wanted(NamedTuple):
    """The requirements for a set."""

    n: int  #: images
    shape: tuple[int, ...]  #: [C, H, W]
    seed: int
    train: Data  #: what the model was trained on
    inside: Part  #: n in-distribution images with their labels
    model: nn.Module
    device: torch.device
    batch: int  #: images per forward


def _nothing(argument: str) -> None:
    if argument:
        raise ValueError(f"it takes nothing, got {argument!r}")


class Outside(NamedTuple):
    """An out-of-distribution set."""

    said: str  #: its description, for the notes of a table
    #: Makes the images [n, C, H, W] float32 in [0, 1], on the CPU, from the argument and the
    #: requirements.
    make: Callable[[Any, Wanted], Tensor]
    #: Turns the text after the colon of its name into an argument; raises a ValueError with a
    #: sentence.
    parse: Callable[[str], Any] = _nothing
    #: Turns the argument into a text that identifies its images among others of that name.
    stamp: Callable[[Any], str] = lambda _: ""
    #: Whether it consists of the test images, each attacked to be misclassified.
    attacked: bool = False
    #: Whether it is a fixed collection of images instead of generated ones.
    collection: bool = False


def made(name: str, wanted: Wanted) -> Tensor:
    """The images of a set: [n, C, H, W] float32 in [0, 1], on the CPU.

    `name` is in `OUTSIDE`, with ":" and an argument if it takes one. If a "resize" or a "task" has
    fewer images, all of them.

    Raises:
        ValueError: As for `known`; or the set has no image, or none of that shape.
    """
    kind, argument = known(name)
    return OUTSIDE[kind].make(argument, wanted)


def known(name: str, role: str = "against") -> tuple[str, Any]:
    """The key of a name in `OUTSIDE`, and its argument; errors call the name `role`.

    Raises:
        ValueError: There is no such set, or the argument is invalid.

    Example:
        >>> known("adversarial_samples:0.3"), known("gaussian")
        (('adversarial_samples', 0.3), ('gaussian', None))
    """
    kind, _, argument = name.partition(":")
    check_one_of(role, kind, OUTSIDE)
    try:
        return kind, OUTSIDE[kind].parse(argument)
    except ValueError as error:
        raise ValueError(
            f"{role} must have a valid argument after the colon of {name!r}: {error}"
        ) from error


def is_collection(name: str) -> bool:
    """Whether a set is a fixed collection of images instead of generated ones.

    Example:
        >>> is_collection("task:digits"), is_collection("gaussian")
        (True, False)
    """
    return OUTSIDE[known(name)[0]].collection


def is_own(name: str, data: str, test: Data) -> bool:
    """Whether a set is of the model's own data: `data` as in `TrainedModel`, with its test set.

    Another seed, division or noise does not make a published data set a different one; for data in
    `SEVERAL` the test images decide.
    """
    kind, argument = known(name)
    if kind != "task" or argument["name"] != data.partition(" ")[0]:
        return False
    several = argument["name"] in SEVERAL or runs_foreign_data(argument["name"])
    return not several or _images_of(argument) == of_data(test)


def evenly(n: int, most: int) -> Tensor:
    """At most `most` of n indices, evenly spaced over all of them: [min(n, most)] int64.

    Not the first ones, because images are often ordered by class.

    Example:
        >>> evenly(10, 5), evenly(3, 5)
        (tensor([0, 2, 4, 6, 8]), tensor([0, 1, 2]))
    """
    chosen = min(n, most)
    return torch.arange(chosen) * n // max(chosen, 1)


def looked_at(data: Data, n: int) -> Tensor:
    """At most n images of a data set, whether or not they are read one by one."""
    places = evenly(length(data), n)
    if isinstance(data, Split):
        return data.x[places]
    return torch.stack([data[i][0] for i in places.tolist()])


# ----------------------------------------------------------------------- what is behind the colon


def _folder(argument: str) -> Path:
    path = Path(argument)
    if not argument or not path.is_dir():
        raise ValueError(f"it must be a folder that exists, got {argument!r}")
    return path.resolve()


def _eps(argument: str, default: float) -> float:
    if not argument:
        return default
    try:
        eps = float(argument)
    except ValueError as error:
        raise ValueError(f"eps must be a number, got {argument!r}") from error
    check_number("eps", eps)
    return eps


def _task(argument: str) -> dict[str, Any]:
    # Imported in functions: reading options is an extra that `rrfast report` does not need.
    from rrfast.train.recipe_file import parse_options

    words = words_of("task", argument)
    name = words[0] if words else ""
    if not runs_foreign_data(name):
        check_data_name(name)
    return parse_options(words)


# ------------------------------------------------------------------------------------- the images


def _textures(_: None, wanted: Wanted) -> Tensor:
    if len(wanted.shape) != 3:
        raise ValueError(
            f"textures are images, and the model takes {list(wanted.shape)}: tune on another set, "
            "such as uniform"
        )
    channels, height, width = wanted.shape
    side = max(height, width)
    square = random_textures(wanted.n, size=side, channels=channels, seed=wanted.seed)
    return square[..., :height, :width]


def _noise(_: None, wanted: Wanted) -> Tensor:
    train = wanted.train
    images = train.x if isinstance(train, Split) else looked_at(train, wanted.n)
    return smoothed_noise(wanted.n, images, seed=wanted.seed)


def _other_task(options: dict[str, Any], wanted: Wanted) -> Tensor:
    """The test images of another task, converted to the channels and the size of the model's data.

    All of its test images: none are needed for validation, since nothing is trained on them. Grey
    is the mean of the channels, as in ACET's grey CIFAR-10.
    """
    test = _test_images(options)
    if test is None:
        raise ValueError(f"{options['name']} must have a test split, and has none")
    images = test.x if isinstance(test, Split) else looked_at(test, wanted.n)
    return _at_most(images, len(images), wanted, grey="mean")


def _at_most(images: Path | Tensor, there: int, wanted: Wanted, grey: str = "luminance") -> Tensor:
    """As many as wanted, or all if there are fewer: no image is repeated."""
    n = min(wanted.n, there) or None
    return resized(images, wanted.shape, n, grey=grey, seed=wanted.seed)


def _images_of(options: dict[str, Any]) -> str:
    return of_data(_test_images(options))


def _test_images(options: dict[str, Any]) -> Data | None:
    from rrfast.train.recipe import named_task

    return named_task(options, 0).undivided().test


def _adversarial_noise(eps: float, wanted: Wanted) -> Tensor:
    """ACET Eq. (4): near a noise image, the image with the highest confidence."""
    return _attacked(wanted, eps, NOISE_STEPS, "confidence", _noise(None, wanted))


def _adversarial_samples(eps: float, wanted: Wanted) -> Tensor:
    """Near a test image, the image with the largest loss.

    ACET App. F only calls it PGD. As in Madry et al., to which it refers, and as in the released
    code, the attack maximizes the cross-entropy of the label.
    """
    return _attacked(wanted, eps, SAMPLE_STEPS, "ce")


def _attacked(
    wanted: Wanted, eps: float, steps: int, loss: str, noise: Tensor | None = None
) -> Tensor:
    """Noise, or by default the test images with their labels, after PGD."""
    attack = PGD(
        eps=eps,
        steps=steps,
        step_size=STEP,
        loss=loss,
        start="uniform_norm",
        keep="loss",
        origin=True,
    )

    def one(i: int, batch: Sequence[Tensor]) -> Tensor:
        seed = derive_seed(wanted.seed, Stream.OUTSIDE_ATTACKED, i)
        generator = torch.Generator(wanted.device).manual_seed(seed)
        inputs = [part.to(wanted.device) for part in batch]
        return attack(wanted.model, *inputs, generator=generator).x.cpu()

    if noise is None:
        return torch.cat(shared(one, wanted.inside.batches(wanted.batch, wanted.device)))
    return torch.cat(shared(one, [(x,) for x in noise.split(wanted.batch)]))


def _files_below(folder: Path) -> str:
    return of_files(folder, image_files(folder))


OUTSIDE: dict[str, Outside] = {
    "gaussian": Outside(
        "every value from N(1/2, 1), clipped",
        lambda _, w: gaussian_noise(w.n, w.shape, seed=w.seed),
    ),
    "uniform": Outside(
        "every value uniform", lambda _, w: uniform_noise(w.n, w.shape, seed=w.seed)
    ),
    "textures": Outside("noise at several scales", _textures),
    "noise": Outside("ACET's, permuted training images and uniform, smoothed", _noise),
    "adversarial_noise": Outside(
        f"PGD on the confidence in {NOISE_STEPS} steps of eps / 40 from noise, eps {NOISE_EPS} "
        "unless it says another",
        _adversarial_noise,
        partial(_eps, default=NOISE_EPS),
    ),
    "adversarial_samples": Outside(
        f"PGD on the cross-entropy of the label in {SAMPLE_STEPS} steps of eps / 40 from the test "
        f"images, eps {SAMPLE_EPS} unless it says another",
        _adversarial_samples,
        partial(_eps, default=SAMPLE_EPS),
        attacked=True,
    ),
    "photos_crop": Outside(
        "patches of two photographs",
        lambda _, w: sample_photos(w.shape, w.n, crop=True, seed=w.seed),
    ),
    "photos_resize": Outside(
        "larger patches of them, scaled down",
        lambda _, w: sample_photos(w.shape, w.n, crop=False, seed=w.seed),
    ),
    "crop": Outside(
        "a patch of every image of a folder",
        lambda folder, w: random_crops(folder, w.shape, w.n, seed=w.seed),
        _folder,
        _files_below,
    ),
    "resize": Outside(
        "the images of a folder, scaled",
        lambda folder, w: _at_most(folder, len(image_files(folder)), w),
        _folder,
        _files_below,
        collection=True,
    ),
    "task": Outside(
        "test images of other data, scaled",
        _other_task,
        _task,
        # The conversion to grey differs from that of older versions.
        lambda options: f"{_images_of(options)} grey by mean",
        collection=True,
    ),
}
