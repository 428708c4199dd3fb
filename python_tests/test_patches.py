"""Crops and scaled images for out-of-distribution sets: places, filter, files, bad input."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor

from rrfast.data import random_crops, resized, sample_photos

MAKERS: list[Callable[..., Tensor]] = [random_crops, resized]
SIZES = {"b.png": (20, 30), "a/z.PNG": (16, 16), "a/c/d.png": (40, 18)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of three sizes in three depths, and what is passed over."""
    draws = np.random.default_rng(0)
    for file, (height, width) in SIZES.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(256, size=(height, width, 3), dtype=np.uint8)).save(path)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    return tmp_path


def pixels(file: Path, mode: str = "RGB") -> Tensor:
    array = np.array(Image.open(file).convert(mode))
    return torch.tensor(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1) / 255


def numbered(height: int, width: int) -> Tensor:
    """An image whose pixels tell where they are: [1, height, width]."""
    return torch.arange(height * width).reshape(1, height, width) / (height * width - 1)


def place(patch: Tensor, height: int, width: int) -> tuple[int, int]:
    """Top and left of a patch of a `numbered` image, every pixel of which is checked."""
    where = (patch[0] * (height * width - 1)).round().long()
    top, left = divmod(int(where[0, 0]), width)
    image = numbered(height, width)
    assert torch.equal(patch, image[:, top : top + patch.shape[1], left : left + patch.shape[2]])
    return top, left


# ------------------------------------------------------------------------------------------ crops


def test_places_are_uniform_among_those_within_the_image() -> None:
    patches = random_crops([numbered(6, 7)], (1, 4, 5), 1800)
    counts = dict.fromkeys(itertools.product(range(3), range(3)), 0)
    for patch in patches:
        counts[place(patch, 6, 7)] += 1  # no other place is among them
    # Chi-square with 8 degrees of freedom: above 40 with p < 1e-5.
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 40


def test_crops_of_files(folder: Path) -> None:
    x = random_crops(folder, (3, 16, 16))
    assert (x.shape, x.dtype, x.device.type) == ((3, 3, 16, 16), torch.float32, "cpu")
    assert torch.equal(random_crops(str(folder), (3, 16, 16)), x)
    for patch, file in zip(x, sorted(SIZES), strict=True):
        image = pixels(folder / file)
        windows = image.unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert int((windows == patch).flatten(1).all(1).sum()) == 1


@pytest.mark.parametrize(
    ("n", "counts"), [(1, [0, 1]), (2, [0, 1]), (3, [1]), (8, [2, 3]), (9, [3])]
)
def test_every_image_has_its_share(n: int, counts: list[int]) -> None:
    """And the images are in their order, and the same is drawn for nobody twice."""
    images = torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    seen = set()
    for seed in range(20):
        values = random_crops(images, (1, 2, 2), n, seed=seed)[:, 0, 0, 0].tolist()
        assert values == sorted(values)
        assert len(values) == n
        share = [values.count(value) for value in (0.0, 0.5, 1.0)]
        assert set(share) == set(counts)
        seen.add(tuple(share))
    assert len(seen) == (1 if len(counts) == 1 else 3)  # each of the three is among the drawn


def test_an_image_that_is_smaller_than_the_patch_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"z.PNG must be at least") as error:
        random_crops(folder, (3, 17, 16))
    assert str(error.value) == (
        f"{folder}/a/z.PNG must be at least as large as a patch of 17 x 16 pixels, and has 16 x 16"
    )
    with pytest.raises(ValueError, match=r"^image 1 must be at least .* 4 x 5 .* has 4 x 4$"):
        random_crops([torch.rand(1, 9, 9), torch.rand(1, 4, 4)], (1, 4, 5))


# ----------------------------------------------------------------------------------------- scaled


def triangle(old: int, new: int) -> np.ndarray:
    """[new, old]: weights that fall linearly to 0 one pixel of the result from its centre."""
    width = max(old / new, 1.0)
    weights = np.zeros((new, old))
    for i in range(new):
        for j in range(old):
            weights[i, j] = max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * old / new) / width)
        weights[i] /= weights[i].sum()
    return weights


@pytest.mark.parametrize("size", [(40, 60), (33, 32), (97, 13), (8, 8), (5, 20)], ids=str)
def test_scaled_against_the_loop(size: tuple[int, int]) -> None:
    image = torch.rand(3, *size)
    x = resized([image], (3, 8, 8))[0].double().numpy()
    rows, columns = (triangle(side, 8) for side in size)
    expected = np.einsum("ir,crs,js->cij", rows, image.double().numpy(), columns)
    # Per axis 2 old / new + 1 products of numbers in [0, 1] with weights that add up to 1, each a
    # quotient of sums as long: as many roundings again.
    roundings = sum(2 * (2 * max(side / 8, 1) + 3) for side in size)
    assert np.abs(x - expected).max() <= roundings * torch.finfo(torch.float32).eps


def test_scaled_as_pillow_does_it(folder: Path) -> None:
    for patch, file in zip(resized(folder, (3, 8, 8)), sorted(SIZES), strict=True):
        image = Image.open(folder / file).resize((8, 8), Resampling.BILINEAR)
        expected = torch.tensor(np.array(image)).permute(2, 0, 1) / 255
        # Pillow rounds to a byte after each axis; the rest is float32.
        assert (patch - expected).abs().max() < (0.5 + 0.5 + 0.01) / 255


def test_of_the_right_size_nothing_is_scaled(folder: Path) -> None:
    assert torch.equal(resized(folder, (3, 16, 16))[1], pixels(folder / "a/z.PNG"))


def test_some_of_the_images_are_scaled() -> None:
    images = torch.arange(10).reshape(10, 1, 1, 1).expand(10, 1, 4, 4) / 9
    values = (resized(images, (1, 2, 2), 4, seed=1)[:, 0, 0, 0] * 9).round().tolist()
    assert values == sorted(values)
    assert len(set(values)) == 4
    assert len(resized(images, (1, 2, 2))) == len(resized(images, (1, 2, 2), 10)) == 10
    with pytest.raises(ValueError, match="n must be at most the number of images, 10, got 11"):
        resized(images, (1, 2, 2), 11)


def test_white_stays_within_bounds() -> None:
    for side in range(30, 60):  # at half of these the sum of the weights is rounded to above 1
        assert resized(torch.ones(1, 3, side, side + 4), (3, 7, 7)).max() <= 1
    assert resized(torch.ones(1, 3, 37, 41), (1, 37, 41)).max() <= 1


# ---------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize("make", MAKERS)
def test_grey_of_files_is_pillows(make: Callable[..., Tensor], folder: Path) -> None:
    x = make(folder, (1, 16, 16))
    assert torch.equal(x[1], pixels(folder / "a/z.PNG", "L"))
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(folder / "a/z.PNG")
    assert torch.equal(
        make(folder, (3, 16, 16))[1], pixels(folder / "a/z.PNG", "L").expand(3, -1, -1)
    )


def test_grey_of_files_by_the_mean(folder: Path) -> None:
    x = resized(folder, (1, 16, 16), grey="mean")
    colour = resized(folder, (3, 16, 16))
    # As above; and what is grey in the file stays as it is.
    torch.testing.assert_close(x[:, 0], colour.mean(dim=1), rtol=0, atol=4 * 2**-24)
    with pytest.raises(ValueError, match="grey must be one of luminance, mean, got 'L'"):
        resized(folder, (1, 16, 16), grey="L")


@pytest.mark.parametrize("make", MAKERS)
def test_grey_and_colour_of_tensors(make: Callable[..., Tensor]) -> None:
    colour = torch.rand(3, 4, 4)
    red, green, blue = colour.double()
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    grey = make([colour], (1, 4, 4))[0, 0].double()
    # Three weights, three products and two sums are rounded, all of numbers up to 1.
    assert (grey - expected).abs().max() <= 4 * torch.finfo(torch.float32).eps
    assert torch.equal(make([colour[:1]], (3, 4, 4))[0], colour[:1].expand(3, 4, 4))
    mean = resized([colour], (1, 4, 4), grey="mean")[0, 0].double()
    assert (mean - colour.double().mean(dim=0)).abs().max() <= 4 * torch.finfo(torch.float32).eps
    assert resized(torch.ones(1, 3, 9, 9), (1, 9, 9), grey="mean").max() <= 1
    two = torch.rand(2, 4, 4, dtype=torch.float64)
    assert torch.equal(make([two], (2, 4, 4))[0], two.float())
    raw = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert torch.equal(make([raw], (1, 16, 16))[0], raw / 255)


@pytest.mark.parametrize("make", MAKERS)
def test_autocast_leaves_the_pixels_as_they_are(make: Callable[..., Tensor]) -> None:
    colour = torch.rand(3, 9, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = make([colour], (1, 4, 4), seed=1)
    assert torch.equal(found, make([colour], (1, 4, 4), seed=1))


@pytest.mark.parametrize("make", MAKERS)
def test_float32_whatever_the_default(
    make: Callable[..., Tensor], defaults_of_another_kind: None
) -> None:
    for channels in (1, 3):
        x = make([torch.rand(3, 9, 7, device="cpu")], (channels, 4, 4))
        assert (x.dtype, x.device.type) == (torch.float32, "cpu")


# --------------------------------------------------------------------------------------- the seed


RAMP = torch.arange(3200) / 3200


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: random_crops(RAMP.reshape(2, 1, 40, 40), (1, 8, 8), 5, seed=seed),
        lambda seed: resized(RAMP.reshape(200, 1, 4, 4), (1, 2, 2), 9, seed=seed),
        lambda seed: sample_photos((3, 8, 8), 5, seed=seed),
        lambda seed: sample_photos((3, 8, 8), 5, crop=False, seed=seed),
    ],
)
def test_the_seed_decides_and_nothing_else(make: Callable[[int], Tensor]) -> None:
    state = torch.get_rng_state()
    first = make(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(make(1), first)
    assert not torch.equal(make(2), first)


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("make", MAKERS)
def test_a_file_that_cannot_be_read_is_named(make: Callable[..., Tensor], folder: Path) -> None:
    file = folder / "a/c/d.png"
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(ValueError, match=f"^{file} cannot be read as an image: "):
        make(folder, (3, 8, 8))


@pytest.mark.parametrize("make", MAKERS)
def test_no_images(make: Callable[..., Tensor], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        make(tmp_path / "nowhere", (3, 8, 8))
    assert str(error.value) == f"images must be a folder of images, got {tmp_path}/nowhere"
    with pytest.raises(FileNotFoundError) as error:
        make(tmp_path, (3, 8, 8))
    assert str(error.value) == (
        f"images must have an image, and there is no .png, .jpg, .jpeg below {tmp_path}"
    )
    with pytest.raises(ValueError, match="images must have at least one image, got none"):
        make([], (3, 8, 8))


GOOD = torch.rand(2, 3, 9, 9)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((3, (3, 8, 8)), TypeError, r"images must be a folder or images \[C, h, w\], got int 3"),
        (([GOOD[0], 3], (3, 8, 8)), TypeError, "image 1 must be a tensor of uint8 or .*, got int"),
        ((GOOD.long(), (3, 8, 8)), TypeError, "image 0 must be a tensor .*, got an int64 tensor"),
        ((GOOD[0], (3, 8, 8)), ValueError, r"image 0 must have shape \[3, h, w\].* \[9, 9\]"),
        (
            (GOOD[:, :2], (3, 8, 8)),
            ValueError,
            r"image 0 must have shape \[3, h, w\].* \[2, 9, 9\]",
        ),
        ((GOOD * 255, (3, 8, 8)), ValueError, r"image 0 must be in \[0, 1\], got"),
        (
            ([GOOD[0] * torch.nan], (3, 8, 8)),
            ValueError,
            r"must be in \[0, 1\], got .* nan to nan",
        ),
        ((GOOD, (8, 8)), ValueError, r"shape must be \[C, H, W\], got \[8, 8\]"),
        ((GOOD, (3, 0, 8)), ValueError, "height in shape must be an integer of at least 1, got 0"),
        ((GOOD, (3, 8, 8), 0), ValueError, "n must be an integer of at least 1, got 0"),
        ((GOOD, (3, 8, 8), 1.0), ValueError, "n must be an integer of at least 1, got 1.0"),
        ((".", (2, 8, 8)), ValueError, "channels in shape must be 1 or 3 for a folder, got 2"),
    ],
)
def test_bad_arguments(
    make: Callable[..., Tensor], arguments: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        make(*arguments)


@pytest.mark.parametrize("make", MAKERS)
def test_a_bad_seed(make: Callable[..., Tensor]) -> None:
    with pytest.raises(TypeError, match=r"seed must be an integer, got 0.5"):
        make(GOOD, (3, 8, 8), seed=0.5)


@pytest.mark.parametrize("make", MAKERS)
def test_without_pillow(
    make: Callable[..., Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"needs Pillow.*pip install pillow"):
        make(folder, (3, 8, 8))
    assert make(GOOD, (3, 8, 8)).shape == (2, 3, 8, 8)


# ------------------------------------------------------------------------------------- two photos


def photographs() -> list[Tensor]:
    from sklearn.datasets import load_sample_images

    return [torch.tensor(image).permute(2, 0, 1) / 255 for image in load_sample_images().images]


def test_patches_of_photographs() -> None:
    x = sample_photos((3, 32, 48), 6, seed=2)
    assert (x.shape, x.dtype) == ((6, 3, 32, 48), torch.float32)
    assert torch.equal(x, random_crops(photographs(), (3, 32, 48), 6, seed=2))


def test_patches_of_photographs_scaled_down() -> None:
    x = sample_photos((3, 8, 12), 6, crop=False, seed=2)
    patches = random_crops(photographs(), (3, 32, 48), 6, seed=2)
    assert torch.equal(x, resized(patches, (3, 8, 12)))
    assert sample_photos((1, 28, 28), 3, crop=False).shape == (3, 1, 28, 28)


def test_photographs_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sample_photos((3, 427, 640), 1).shape == (1, 3, 427, 640)
    with pytest.raises(ValueError, match=r"at least as large as a patch of 428 x 8 pixels, .* 427"):
        sample_photos((3, 107, 2), 2, crop=False)
    with pytest.raises(TypeError, match="crop must be a bool, got int 1"):
        sample_photos((3, 8, 8), 2, crop=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n must be an integer of at least 1, got None"):
        sample_photos((3, 8, 8), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"image 0 must have shape \[2, h, w\]"):
        sample_photos((2, 8, 8), 2)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"needs scikit-learn.*pip install scikit-learn"):
        sample_photos((3, 8, 8), 2)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"needs Pillow.*pip install pillow"):
        sample_photos((3, 8, 8), 2)
