"""Readers of released files: files written here in the true format, whole, truncated and wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import io
import os
import pickle
import struct
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch.utils.data import DataLoader

from rrfast.data import (
    CORRUPTIONS,
    EXTRA_CORRUPTIONS,
    cifar10,
    cifar10c,
    cifar100,
    image_folder,
)

# Modules that share their names with functions.
CIFAR = importlib.import_module("rrfast.data.cifar")
CIFAR10C = importlib.import_module("rrfast.data.cifar_c")

READERS = {"CIFAR10": cifar10, "CIFAR100": cifar100}


def images(x: torch.Tensor) -> np.ndarray:
    """The bytes that these images came from."""
    return (x * 255).round().to(torch.uint8).numpy()


# ----------------------------------------------------------------------------------------- CIFAR


@pytest.fixture(params=["CIFAR10", "CIFAR100"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def release(name, monkeypatch):
    """The release with 7 images in the first file of training, one fewer in each that follows."""
    whole = getattr(CIFAR, name)
    small = dataclasses.replace(
        whole,
        train={file: 7 - i for i, file in enumerate(whole.train)},
        test=dict.fromkeys(whole.test, 5),
    )
    monkeypatch.setattr(CIFAR, name, small)
    return small


@pytest.fixture
def rows(release):
    """Random rows of every file: label bytes, then 3072 pixel bytes."""
    draws = np.random.default_rng(0)
    files = {}
    for file, n in (release.train | release.test).items():
        labels = [draws.integers(classes, size=(n, 1)) for classes in release.labels.values()]
        pixels = draws.integers(256, size=(n, 3072))
        files[file] = np.concatenate([*labels, pixels], axis=1).astype(np.uint8)
    return files


@pytest.fixture
def folder(release, rows, tmp_path):
    folder = tmp_path / release.folder
    folder.mkdir()
    for file, data in rows.items():
        data.tofile(folder / file)
    return folder


@pytest.fixture
def archive(name, release, rows, tmp_path, monkeypatch):
    """The files in a .tar.gz, in another order and among others, its MD5 taken for the released."""
    path = tmp_path / release.where.rpartition(" ")[2]
    with tarfile.open(path, "w:gz") as tar:
        content = {file: data.tobytes() for file, data in reversed(rows.items())}
        for file, data in ({"readme.html": b"<html>"} | content).items():
            member = tarfile.TarInfo(f"{release.folder}/{file}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo(f"{release.folder}/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR, name, dataclasses.replace(release, md5=md5))
    return path


def check_round_trip(data, release, rows, column=-1):
    skip = len(release.labels)
    for split, files in zip(data, (release.train, release.test), strict=True):
        expected = np.concatenate([rows[file] for file in files])
        assert (split.x.dtype, split.y.dtype) == (torch.float32, torch.int64)
        assert split.x.is_contiguous()
        assert 0 <= split.x.min() < split.x.max() <= 1
        assert np.array_equal(images(split.x), expected[:, skip:].reshape(-1, 3, 32, 32))
        assert np.array_equal(split.y.numpy(), expected[:, skip + column if column < 0 else column])


@pytest.mark.parametrize("where", ["folder", "parent", "text"])
def test_cifar_round_trip(where, name, release, rows, folder):
    path = {"folder": folder, "parent": folder.parent, "text": str(folder)}[where]
    check_round_trip(READERS[name](path), release, rows)


def test_cifar_float32_whatever_the_default(name, folder, defaults_of_another_kind):
    for split in READERS[name](folder):
        assert (split.x.dtype, split.x.device.type) == (torch.float32, "cpu")


def test_cifar_pixels_are_the_division_of_torch(name, rows, folder):
    raw = torch.arange(256, dtype=torch.uint8)
    file = next(iter(rows))
    rows[file][0, -256:] = raw.numpy()
    rows[file].tofile(folder / file)
    x = READERS[name](folder).train.x[0].flatten()[-256:]
    assert torch.equal(x, raw.to(torch.float32) / 255)


def test_cifar_from_the_archive(name, release, rows, archive, tmp_path):
    check_round_trip(READERS[name](archive), release, rows)
    assert list(tmp_path.iterdir()) == [archive]  # nothing was unpacked


@pytest.mark.parametrize("name", ["CIFAR100"])
def test_cifar100_coarse(release, rows, folder):
    check_round_trip(cifar100(folder, fine=False), release, rows, column=0)


def test_cifar_without_pickle(name, folder, monkeypatch):
    for module, function in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, function, None)
    READERS[name](folder)


def test_cifar_the_released_sizes():
    # 60,000 images; the archive of CIFAR-10 says 30,730,000 bytes per file.
    for release in (CIFAR.CIFAR10, CIFAR.CIFAR100):
        assert sum(release.train.values()) == 50_000
        assert sum(release.test.values()) == 10_000
    assert CIFAR.CIFAR10.train["data_batch_5.bin"] * 3073 == 30_730_000
    source = "binary release of CIFAR-10. It is at https://www.cs.toronto.edu/~kriz/cifar.html as"
    assert source in f"{CIFAR.CIFAR10.name}. {CIFAR.CIFAR10.where}"
    assert CIFAR.CIFAR100.where.endswith(" as cifar-100-binary.tar.gz")


def test_cifar_no_folder(name, release, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        READERS[name](tmp_path / "nowhere")
    assert str(error.value) == (
        f"{tmp_path}/nowhere is no folder: folder must be {release.name}, unpacked or as the "
        f"archive. {release.where}"
    )


def test_cifar_no_file(name, release, folder):
    for file in (next(reversed(release.train)), *release.test):
        kept = (folder / file).rename(folder / "elsewhere")
        with pytest.raises(FileNotFoundError) as error:
            READERS[name](folder.parent)
        assert str(error.value) == (f"{file} of {release.name} is not in {folder}. {release.where}")
        kept.rename(folder / file)


@pytest.mark.parametrize("change", [-1, 1, -3072, "row", "all"])
def test_cifar_wrong_length(change, name, release, rows, folder):
    file = next(reversed(release.train))
    data = rows[file].tobytes()
    row = rows[file].shape[1]
    length = {"row": len(data) + row, "all": 0}.get(change) if isinstance(change, str) else None
    length = len(data) + change if length is None else length
    (folder / file).write_bytes((data + bytes(row))[:length])
    with pytest.raises(ValueError, match="truncated") as error:
        READERS[name](folder)
    assert str(error.value).startswith(
        f"{folder / file} must have {len(data)} bytes, {release.train[file]} rows of {row}, and "
        f"has {length}: is the download truncated? It is at https://"
    )


def test_cifar_wrong_label(name, release, rows, folder):
    file = next(iter(release.test))
    for column, (label, classes) in enumerate(release.labels.items()):
        kept = rows[file][3, column]
        rows[file][3:, column] = classes
        rows[file].tofile(folder / file)
        with pytest.raises(ValueError, match=r"must have .*labels") as error:
            READERS[name](folder)
        assert str(error.value) == (
            f"{folder / file} must have {label} from 0 to {classes - 1}, and has {classes} in row 3"
        )
        rows[file][3:, column] = kept


def test_cifar_another_archive(name, release, archive):
    expected = getattr(CIFAR, name).md5
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(ValueError, match="MD5") as error:
        READERS[name](archive)
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    assert str(error.value) == (
        f"{archive} has {archive.stat().st_size} bytes and the MD5 {found}, expected {expected}: "
        "is the download truncated, or the archive another one, such as the Python version? "
        f"{release.where}"
    )


def test_cifar_wrong_arguments():
    with pytest.raises(TypeError, match=r"folder must be a path, str or pathlib.Path, got int 3"):
        cifar10(3)
    with pytest.raises(TypeError, match="fine must be a bool, got str 'coarse'"):
        cifar100("folder", fine="coarse")


# ------------------------------------------------------------------------------------ CIFAR-10-C


@pytest.fixture
def corrupted(tmp_path, monkeypatch):
    """CIFAR-10-C with 6 images per severity: fog, and the labels."""
    monkeypatch.setattr(CIFAR10C, "IMAGES", 6)
    draws = np.random.default_rng(0)
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    np.save(folder / "fog.npy", draws.integers(256, size=(30, 32, 32, 3), dtype=np.uint8))
    np.save(folder / "labels.npy", np.tile(draws.integers(10, size=6), 5))
    return folder


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_cifar10c_round_trip(severity, corrupted):
    rows = slice(6 * (severity - 1), 6 * severity)
    for folder in (corrupted, corrupted.parent, str(corrupted)):
        x, y = cifar10c(folder, "fog", severity)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert x.is_contiguous()
        expected = np.load(corrupted / "fog.npy")[rows]
        assert np.array_equal(images(x), expected.transpose(0, 3, 1, 2))
        assert torch.equal(x, torch.tensor(expected).permute(0, 3, 1, 2) / 255)
        assert np.array_equal(y.numpy(), np.load(corrupted / "labels.npy")[rows])


def test_cifar10c_float32_whatever_the_default(corrupted, defaults_of_another_kind):
    x, _ = cifar10c(corrupted, "fog", 1)
    assert (x.dtype, x.device.type) == (torch.float32, "cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, ">i8"])
def test_cifar10c_labels_of_any_integers(dtype, corrupted):
    y = np.arange(30) % 10
    np.save(corrupted / "labels.npy", y.astype(dtype))
    assert cifar10c(corrupted, "fog", 2).y.tolist() == y[6:12].tolist()


def test_cifar10c_the_result_is_a_copy(corrupted):
    split = cifar10c(corrupted, "fog", 1)
    split.x.zero_()
    split.y.zero_()
    assert cifar10c(corrupted, "fog", 1).x.max() > 0


def test_cifar10c_names():
    assert (len(CORRUPTIONS), len(EXTRA_CORRUPTIONS)) == (15, 4)
    assert len({*CORRUPTIONS, *EXTRA_CORRUPTIONS}) == 19


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((3, "fog", 1), TypeError, "folder must be a path, .* got int 3"),
        ((".", "mist", 1), ValueError, "corruption must be one of gaussian_.*saturate, got 'mist'"),
        ((".", 3, 1), ValueError, "corruption must be one of .*, got 3"),
        ((".", "fog", 0), ValueError, "severity must be from 1 to 5, got 0"),
        ((".", "fog", 6), ValueError, "severity must be from 1 to 5, got 6"),
        ((".", "fog", 1.0), TypeError, r"severity must be an integer, got float 1.0"),
        ((".", "fog", True), TypeError, "severity must be an integer, got bool True"),
    ],
)
def test_cifar10c_wrong_arguments(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        cifar10c(*arguments)


@pytest.mark.parametrize("file", ["fog.npy", "labels.npy"])
def test_cifar10c_no_file(file, corrupted):
    (corrupted / file).unlink()
    with pytest.raises(FileNotFoundError) as error:
        cifar10c(corrupted.parent, "fog", 1)
    assert str(error.value) == (
        f"{file} of CIFAR-10-C is not in {corrupted}. It is at "
        "https://zenodo.org/records/2535967 in CIFAR-10-C.tar"
    )


class Trap:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("content", ["truncated", "header", "empty", "pickle", "objects", "zip"])
@pytest.mark.parametrize("file", ["fog.npy", "labels.npy"])
def test_cifar10c_no_array(content, file, corrupted, tmp_path):
    path, sprung = corrupted / file, tmp_path / "sprung"
    if content in {"truncated", "header", "empty"}:
        data = path.read_bytes()
        path.write_bytes(data[: {"truncated": len(data) - 1, "header": 20, "empty": 0}[content]])
    elif content == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    elif content == "objects":
        np.save(path, np.array([Trap(sprung)] * 30, dtype=object))
    else:
        with path.open("wb") as stream:
            np.savez(stream, np.zeros(30))
    with pytest.raises(ValueError, match="truncated") as error:
        cifar10c(corrupted, "fog", 5)
    sentence = str(error.value)
    assert sentence.startswith(
        f"{path} must be a whole .npy file of numbers and cannot be read as one: "
    )
    assert sentence.endswith(
        "Is the download truncated? Pickled Python objects are refused. It is at "
        "https://zenodo.org/records/2535967 in CIFAR-10-C.tar"
    )
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("file", "array", "sentence"),
    [
        (
            "fog.npy",
            np.zeros((29, 32, 32, 3), "u1"),
            r"uint8 of shape \[30, 32, 32, 3\], got uint8 of shape \[29,",
        ),
        ("fog.npy", np.zeros((30, 3, 32, 32), "u1"), r"got uint8 of shape \[30, 3, 32, 32\]"),
        ("fog.npy", np.zeros((30, 32, 32, 3), "f4"), r"got float32 of shape \[30, 32"),
        ("labels.npy", np.zeros(30), r"integer of shape \[30\], got float64 of shape \[30\]"),
        ("labels.npy", np.zeros((30, 1), "i8"), r"got int64 of shape \[30, 1\]"),
    ],
)
def test_cifar10c_another_array(file, array, sentence, corrupted):
    np.save(corrupted / file, array)
    with pytest.raises(ValueError, match=f"{file} must be .*{sentence}.*zenodo"):
        cifar10c(corrupted, "fog", 1)


@pytest.mark.parametrize("label", [-1, 10])
def test_cifar10c_wrong_label(label, corrupted):
    y = np.load(corrupted / "labels.npy")
    y[8] = label
    np.save(corrupted / "labels.npy", y)
    with pytest.raises(ValueError, match=f"labels from 0 to 9, and has {label} in row 8"):
        cifar10c(corrupted, "fog", 2)
    cifar10c(corrupted, "fog", 1)  # not its rows


# -------------------------------------------------------------------------------------- a folder


def draw(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (height, width, 3)
    pixels = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.fixture
def root(tmp_path):
    """Three classes; among the images, what is no image."""
    for seed, file in enumerate(["b/2.png", "b/10.png", "a/x.JPEG", "c/y.jpg", "c/z.jpeg"]):
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        draw(20, 16, seed=seed).save(path)
    (tmp_path / "c" / "notes.txt").write_text("no image")
    (tmp_path / "c" / "._y.jpg").write_text("no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README").write_text("no class")
    return tmp_path


def test_folder_order(root):
    data = image_folder(root, size=8)
    assert data.classes == ["a", "b", "c"]
    assert data.files == ["a/x.JPEG", "b/10.png", "b/2.png", "c/y.jpg", "c/z.jpeg"]
    assert data.y.tolist() == [0, 1, 1, 2, 2]
    assert len(data) == 5
    assert [y for _, y in data] == [0, 1, 1, 2, 2]
    assert data[-1][1] == 2
    with pytest.raises(IndexError):
        data[5]


def test_folder_float32_whatever_the_default(root, defaults_of_another_kind):
    x, y = image_folder(root, size=8)[4]
    assert (x.dtype, x.device.type, y) == (torch.float32, "cpu", 2)


def test_folder_pixels_to_the_byte(root):
    # As high as the image: no scaling, and the centre of 20 columns begins at the third.
    x, _ = image_folder(str(root), size=16, shorter=16)[2]
    assert (x.dtype, x.shape) == (torch.float32, (3, 16, 16))
    assert x.is_contiguous()
    expected = np.asarray(draw(20, 16, seed=0))[:, 2:18].transpose(2, 0, 1)
    assert np.array_equal(images(x), expected)
    assert torch.equal(x, torch.tensor(expected) / 255)


@pytest.mark.parametrize(
    ("width", "height", "scaled"),
    [
        (50, 40, (40, 32)),
        (40, 50, (32, 40)),
        (30, 20, (48, 32)),
        (33, 100, (32, 96)),
        (7, 7, (32, 32)),
    ],
)
def test_folder_scale_and_crop(width, height, scaled, tmp_path):
    (tmp_path / "a").mkdir()
    draw(width, height).save(tmp_path / "a" / "1.png")
    x, _ = image_folder(tmp_path, size=28)[0]  # 8/7 of it is 32
    left, top = ((side - 28) // 2 for side in scaled)
    whole = np.asarray(draw(width, height).resize(scaled, Image.Resampling.BILINEAR))
    expected = whole[top : top + 28, left : left + 28].transpose(2, 0, 1)
    assert np.array_equal(images(x), expected)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_folder_modes(mode, tmp_path):
    (tmp_path / "a").mkdir()
    image = draw(8, 8).convert("L").convert(mode) if mode == "LA" else draw(8, 8, mode)
    file = tmp_path / "a" / ("1.jpg" if mode == "CMYK" else "1.png")
    image.save(file)
    x, _ = image_folder(tmp_path, size=8, shorter=8)[0]
    with Image.open(file) as saved:
        assert np.array_equal(images(x), np.asarray(saved.convert("RGB")).transpose(2, 0, 1))


@pytest.mark.parametrize("workers", [0, 1])
def test_folder_in_a_loader(workers, root):
    (x, y), *rest = DataLoader(image_folder(root, size=8), batch_size=5, num_workers=workers)
    assert (x.shape, x.dtype) == ((5, 3, 8, 8), torch.float32)
    assert (y.tolist(), y.dtype) == ([0, 1, 1, 2, 2], torch.int64)
    assert not rest


def test_folder_no_class(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"sub-folder per class, got {tmp_path}/nowhere"):
        image_folder(tmp_path / "nowhere")
    (tmp_path / "1.png").touch()
    with pytest.raises(FileNotFoundError, match=f"sub-folder per class, and {tmp_path} has none"):
        image_folder(tmp_path)


def test_folder_empty_class(root):
    (root / "d").mkdir()
    (root / "d" / "notes.txt").touch()
    with pytest.raises(
        FileNotFoundError, match=f"class d has no image: no .png, .jpg, .jpeg in {root}/d"
    ):
        image_folder(root)


@pytest.mark.parametrize("content", ["truncated", "text", "empty", "missing", "16 bits"])
@pytest.mark.parametrize("file", ["a/x.JPEG", "b/2.png"])
def test_folder_unreadable_image(content, file, root):
    data = image_folder(root, size=8)
    path = root / file
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-300])
    elif content == "16 bits":
        Image.fromarray(np.full((9, 9), 1000, dtype=np.uint16)).save(path, format="PNG")
    elif content == "missing":
        path.unlink()
    else:
        path.write_text("no image" if content == "text" else "")
    with pytest.raises(ValueError, match=f"{path} cannot be read as an image: ") as error:
        data[data.files.index(file)]
    assert error.value.__cause__ is not None
    data[data.files.index("c/y.jpg")]  # the others can


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_pipe_in_a_folder_is_not_waited_for(root, monkeypatch):
    (root / "b" / "2.png").unlink()
    os.mkfifo(root / "b" / "2.png")
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("it was opened"))
    data = image_folder(root, size=8)
    with pytest.raises(ValueError, match=r"2.png cannot be read as an image: it is no regular"):
        data[data.files.index("b/2.png")]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_folder_image_of_too_many_pixels_is_not_decoded(root, monkeypatch):
    def chunk(kind, data):
        length, crc = (struct.pack(">I", n) for n in (len(data), zlib.crc32(kind + data)))
        return length + kind + data + crc

    head = struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)
    path = root / "b" / "2.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") * 2)
    data = image_folder(root, size=8)
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
        patch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
        with pytest.raises(ValueError, match=r"2.png cannot be .* has 13000 x 13000 pixels, mor"):
            data[data.files.index("b/2.png")]
    Image.new("RGB", (20, 30)).save(path)
    for most, refused in ((599, True), (600, False), (None, False)):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        if refused:
            with pytest.raises(ValueError, match=r"20 x 30 pixels, more than PIL.Image.MAX_IMAGE"):
                data[data.files.index("b/2.png")]
        else:
            assert data[data.files.index("b/2.png")][0].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"root": 3}, TypeError, "root must be a path, .* got int 3"),
        ({"size": 0}, ValueError, "size must be an integer of at least 1, got 0"),
        ({"size": 8.0}, ValueError, "size must be an integer of at least 1, got 8.0"),
        ({"size": 8, "shorter": 7}, ValueError, "shorter must be an integer of at least 8, got 7"),
    ],
)
def test_folder_wrong_arguments(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        image_folder(**({"root": "."} | arguments))


def test_folder_without_pillow(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"needs Pillow.*pip install pillow"):
        image_folder(root)
