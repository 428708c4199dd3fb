"""Outliers: the released file in its true format, the draws, and the textures made here."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from rrfast.data import Outliers, folder_images, random_images, random_textures
from rrfast.data.folder import image_folder

N = 20
NAME = "300K_random_images.npy"


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(N, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def file(pixels, tmp_path):
    path = tmp_path / NAME
    with path.open("wb") as stream:
        np.lib.format.write_array(stream, pixels, allow_pickle=False)
    return path


def numbered(n: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Images [n, 1, 2, 2] whose pixels are their row: as bytes, or as a byte over 255."""
    rows = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 2, 2)
    return rows.clone() if dtype == torch.uint8 else (rows.to(torch.float64) / 255).to(dtype)


def drawn(x: torch.Tensor) -> list[int]:
    """The rows that `numbered` images are."""
    return [round(float(pixel) * 255) for pixel in x[:, 0, 0, 0]]


# ----------------------------------------------------------------------------------- the release


@pytest.mark.parametrize("where", ["file", "folder", "text"])
def test_the_released_file(where, file, pixels):
    outliers = random_images({"file": file, "folder": file.parent, "text": str(file)}[where])
    assert len(outliers) == N
    x = torch.zeros(50, 3, 32, 32)
    torch.manual_seed(0)
    x = outliers(x)
    torch.manual_seed(0)
    expected = torch.tensor(pixels).permute(0, 3, 1, 2)[torch.randint(N, (1, 50))[0]]
    assert (x.dtype, x.shape) == (torch.float32, (50, 3, 32, 32))
    assert torch.equal(x, expected / 255)


def test_the_file_is_mapped_and_not_read(file):
    images = random_images(file).images
    base = images
    while not isinstance(base, np.memmap):
        base = base.base
    assert np.shares_memory(images, base)
    assert not images.flags.writeable


@pytest.mark.parametrize("fortran", [False, True])
def test_the_order_of_the_file_does_not_matter(fortran, file, pixels):
    np.save(file, np.asfortranarray(pixels) if fortran else pixels)
    x = torch.zeros(5, 3, 32, 32)
    torch.manual_seed(3)
    result = random_images(file)(x)
    torch.manual_seed(3)
    assert torch.equal(result, Outliers(torch.tensor(pixels).permute(0, 3, 1, 2))(x))


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / NAME):
        with pytest.raises(FileNotFoundError) as error:
            random_images(path)
        assert str(error.value) == (
            f"{NAME} of the 300K Random Images is not in {tmp_path}. The link to {NAME} is at "
            "https://github.com/hendrycks/outlier-exposure"
        )
    with pytest.raises(TypeError, match=r"path must be a path, str or pathlib.Path, got int 3"):
        random_images(3)


class Trap:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("content", ["truncated", "header", "empty", "pickle", "objects", "zip"])
def test_no_array(content, file, tmp_path):
    sprung = tmp_path / "sprung"
    if content in {"truncated", "header", "empty"}:
        data = file.read_bytes()
        file.write_bytes(data[: {"truncated": len(data) - 1, "header": 20, "empty": 0}[content]])
    elif content == "pickle":
        file.write_bytes(pickle.dumps(Trap(sprung)))
    elif content == "objects":
        np.save(file, np.array([Trap(sprung)] * N, dtype=object))
    else:
        with file.open("wb") as stream:
            np.savez(stream, np.zeros(3))
    with pytest.raises(ValueError, match="truncated") as error:
        random_images(file)
    sentence = str(error.value)
    assert sentence.startswith(
        f"{file} must be a whole .npy file of numbers and cannot be read as one: "
    )
    assert sentence.endswith(
        "Is the download truncated? Pickled Python objects are refused. The link to "
        f"{NAME} is at https://github.com/hendrycks/outlier-exposure"
    )
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("shape", "dtype", "got"),
    [
        ((4, 3, 32, 32), "u1", r"uint8 of shape \[4, 3, 32, 32\]"),
        ((4, 32, 32), "u1", r"uint8 of shape \[4, 32, 32\]"),
        ((4, 32, 32, 3), "f4", r"float32 of shape \[4, 32, 32, 3\]"),
    ],
)
def test_another_array(shape, dtype, got, file):
    np.save(file, np.zeros(shape, dtype))
    with pytest.raises(
        ValueError, match=rf"{NAME} must be uint8 of shape \[n, 32, 32, 3\], got {got}\. The link"
    ):
        random_images(file)


def test_a_file_of_no_images(file):
    np.save(file, np.zeros((0, 32, 32, 3), "u1"))
    with pytest.raises(ValueError, match=r"n at least 1|cannot be read"):
        random_images(file)


# ------------------------------------------------------------------------------ images in a folder


@pytest.fixture
def folder(tmp_path):
    """Twelve photographs' worth of noise, of three shapes, in folders within folders."""
    image = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(0)
    for i in range(12):
        below = tmp_path / "places" / "ab"[i % 2] / "deep"
        below.mkdir(parents=True, exist_ok=True)
        shape = ((30, 20), (20, 30), (24, 24))[i % 3]
        pixels = generator.integers(256, size=(*shape, 3), dtype=np.uint8)
        image.fromarray(pixels).save(below / f"{i:02}.{('png', 'JPG')[i % 2]}")
    (tmp_path / "places" / "a" / "list.txt").write_text("no image")
    return tmp_path / "places"


@pytest.mark.parametrize("workers", [0, 3])
def test_a_folder_is_drawn_from_as_an_image_folder_is_read(folder, workers):
    outliers = folder_images(folder, size=14, workers=workers)
    assert len(outliers) == 12
    torch.manual_seed(1)
    x = outliers(torch.zeros(20, 3, 14, 14))
    torch.manual_seed(1)
    rows = torch.randint(12, (1, 20))[0].tolist()
    # The same files, with the class above them that `image_folder` wants.
    read = {f"{part}/deep/{file}": image for part in "ab" for file, image in files(folder / part)}
    names = sorted(read)
    assert torch.equal(x, torch.stack([read[names[row]] for row in rows]))
    assert len({*rows}) > 8


def files(part):
    data = image_folder(part, size=14)
    return [(Path(name).name, data[i][0]) for i, name in enumerate(data.files)]


def test_a_folder_is_read_where_it_is_drawn_and_nowhere_else(folder, monkeypatch):
    from rrfast.data import outliers as module

    opened = []

    def reading(file, **options):
        opened.append(file.name)
        return np.zeros((3, 8, 8), np.uint8)

    monkeypatch.setattr(module, "read_bytes", reading)
    outliers = folder_images(folder, size=8)
    assert opened == []
    torch.manual_seed(0)
    outliers(torch.zeros(5, 3, 8, 8))
    torch.manual_seed(0)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.*") if p.suffix != ".txt")
    assert opened == [Path(names[row]).name for row in torch.randint(12, (1, 5))[0]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_drawn_file_that_is_no_image(folder, workers):
    for file in folder.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"\d\d\.png cannot be read as an image: "):
        folder_images(folder, size=8, workers=workers)(torch.zeros(20, 3, 8, 8))


def test_no_folder_of_images(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a folder of images, got .*nowhere"):
        folder_images(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no \.png, .* below .*empty"):
        folder_images(tmp_path / "empty")
    for wrong in ({"size": 0}, {"size": 8, "shorter": 7}, {"workers": -1}):
        with pytest.raises(ValueError, match=f"{[*wrong][-1]} must be an integer of at least"):
            folder_images(folder, **wrong)
    with pytest.raises(ValueError, match=r"x must have shape \[B, 3, 8, 8\], as the outliers have"):
        folder_images(folder, size=8)(torch.zeros(2, 3, 9, 9))


# -------------------------------------------------------------------------------------- the draws


@pytest.mark.parametrize("images", [torch.uint8, torch.float32, torch.float64, torch.float16, "np"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_the_result_is_like_x(images, dtype):
    source = numbered(200).numpy() if images == "np" else numbered(200, images)
    outliers, x = Outliers(source), torch.rand(64, 1, 2, 2, requires_grad=True).to(dtype)
    torch.manual_seed(1)
    result = outliers(x)
    assert (result.dtype, result.shape, result.requires_grad) == (dtype, x.shape, False)
    torch.manual_seed(1)
    rows = torch.randint(200, (1, 64))[0]
    expected = (rows.double() / 255)[:, None, None, None].expand_as(x)
    if images in (torch.uint8, "np"):  # a byte over 255, rounded once
        assert torch.equal(result, (expected * 255).to(dtype) / 255)
    else:
        assert torch.equal(result, expected.to(images).to(dtype))


def test_the_memory_format_is_that_of_x(file):
    outliers = random_images(file)
    x = torch.rand(4, 3, 32, 32)
    torch.manual_seed(0)
    plain = outliers(x)
    torch.manual_seed(0)
    last = outliers(x.contiguous(memory_format=torch.channels_last))
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)


def test_the_source_is_left_as_it_is():
    source = numbered(5, torch.float32)
    Outliers(source)(torch.rand(9, 1, 2, 2)).zero_()
    assert torch.equal(source, numbered(5, torch.float32))


def test_draws_are_with_replacement_and_of_every_image():
    outliers = Outliers(numbered(7))
    torch.manual_seed(0)
    rows = drawn(outliers(torch.rand(7000, 1, 2, 2)))
    counts = np.bincount(rows, minlength=7)
    assert counts.size == 7
    # Five standard deviations of a binomial count.
    assert np.abs(counts - 1000).max() < 5 * (7000 * 1 / 7 * 6 / 7) ** 0.5


def test_an_empty_batch():
    assert Outliers(numbered(7))(torch.rand(0, 1, 2, 2)).shape == (0, 1, 2, 2)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_draw_together_what_one_draws_for_the_joint_batch(world, monkeypatch):
    outliers, share = Outliers(numbered(200)), 8
    torch.manual_seed(0)
    joint = [drawn(outliers(torch.rand(share * world, 1, 2, 2))) for _ in range(2)]
    state = torch.get_rng_state()
    x = torch.zeros(share, 1, 2, 2)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        torch.rand(share * world, 1, 2, 2)
        first = drawn(outliers(x))
        torch.rand(share * world, 1, 2, 2)
        shares.append((first, drawn(outliers(x))))
        assert torch.equal(torch.get_rng_state(), state)  # the processes stay alike
    for step in range(2):
        assert [row for share in shares for row in share[step]] == joint[step]


@pytest.mark.parametrize(
    ("images", "error", "sentence"),
    [
        ([1], TypeError, r"images must be a tensor or a uint8 array, got list \[1\]"),
        (np.zeros((2, 1, 2, 2)), TypeError, "must be uint8 as an array, got a float64 array of"),
        (torch.zeros(2, 1, 2, 2).int(), TypeError, "must be uint8 or floating point, got an int32"),
        (torch.zeros(2, 2, 2), ValueError, r"shape \[n, C, H, W\], n at least 1, got a float32"),
        (np.zeros((2, 2), "u1"), ValueError, r"got a uint8 array of shape \[2, 2\]"),
        (torch.zeros(0, 1, 2, 2), ValueError, r"n at least 1, got a float32 .* \[0, 1, 2, 2\]"),
        (torch.full((2, 1, 2, 2), 255.0), ValueError, r"in \[0, 1\], got pixels from 255 to 255"),
        (torch.full((2, 1, 2, 2), -0.5), ValueError, r"must be in \[0, 1\], got pixels from -0.5"),
        (torch.full((2, 1, 2, 2), float("nan")), ValueError, r"must be in \[0, 1\], got .* nan"),
    ],
)
def test_no_images(images, error, sentence):
    with pytest.raises(error, match=sentence):
        Outliers(images)


@pytest.mark.parametrize(
    ("x", "error", "sentence"),
    [
        (torch.rand(2, 3, 2, 2), ValueError, r"x must have shape \[B, 1, 2, 2\], as the outliers"),
        (torch.rand(2, 1, 2, 3), ValueError, r"got a float32 tensor of shape \[2, 1, 2, 3\]"),
        (torch.rand(1, 2, 2), ValueError, r"x must have shape \[B, 1, 2, 2\]"),
        (torch.zeros(2, 1, 2, 2).byte(), TypeError, "x must be a tensor of float64"),
    ],
)
def test_another_shape(x, error, sentence):
    with pytest.raises(error, match=sentence):
        Outliers(numbered(3))(x)


# ----------------------------------------------------------------------------------- the textures


@pytest.mark.parametrize(("size", "channels"), [(2, 1), (8, 1), (13, 2), (32, 3), (33, 3)])
def test_textures(size, channels):
    x = random_textures(50, size=size, channels=channels, seed=3)
    assert (x.dtype, x.shape) == (torch.float32, (50, channels, size, size))
    assert x.is_contiguous()
    assert 0 <= x.min() < x.max() <= 1


def test_textures_the_seed_decides_and_nothing_else():
    state = torch.get_rng_state()
    first = random_textures(9, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert torch.equal(random_textures(9, seed=5), first)
    assert not torch.equal(random_textures(9, seed=6), first)


def test_textures_have_the_contrast_they_say():
    x = random_textures(500, size=16, seed=0)
    deviation, mean = torch.std_mean(x, dim=(1, 2, 3))
    assert (mean - 0.5).abs().max() < 0.02  # clipping takes from both sides nearly alike
    assert deviation.min() > 0.045
    assert deviation.max() < 0.301  # c, of which clipping only takes
    assert deviation.mean() == pytest.approx(0.175, abs=0.02)


def test_textures_are_smoother_than_noise_and_not_alike():
    """Neighbours correlate, much in clouds and little in grain; in white noise not at all."""
    x = random_textures(300, size=32, seed=0) - 0.5
    neighbours = (x[..., 1:] * x[..., :-1]).mean((1, 2, 3)) / x.square().mean((1, 2, 3))
    assert neighbours.min() > 0
    assert neighbours.mean() > 0.5
    assert neighbours.std() > 0.1


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"n": 0}, ValueError, "n must be an integer of at least 1, got 0"),
        ({"size": 1}, ValueError, "size must be an integer of at least 2, got 1"),
        ({"channels": 0}, ValueError, "channels must be an integer of at least 1, got 0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
    ],
)
def test_textures_invalid(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        random_textures(**({"n": 3} | arguments))
