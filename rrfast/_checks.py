"""Argument checks whose errors name the argument, its value, and what was expected."""

from __future__ import annotations

import contextlib
import difflib
import errno
import math
import numbers
import os
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from rrfast._errors import retold

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def describe(value: object) -> str:
    """The value in words, for an error message."""
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        if value.is_nested:  # it may have no shape
            return f"a nested {dtype} tensor"
        layout = str(value.layout).removeprefix("torch.").removeprefix("_") + " "
        kind = "" if value.layout is torch.strided else layout
        return f"{with_article(kind + dtype)} tensor of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)) and any(isinstance(part, Tensor) for part in value):
        parts = ", ".join(describe(part) for part in value[:3])
        more = f" and {len(value) - 3} more" if len(value) > 3 else ""
        return f"{type(value).__name__} of {len(value)}: {parts}{more}"
    return f"{type(value).__name__} {textwrap.shorten(repr(value), 80)}"


def with_article(what: str) -> str:
    """A noun behind its article.

    Example:
        >>> with_article("int64 tensor"), with_article("uint8 tensor")
        ('an int64 tensor', 'a uint8 tensor')
    """
    return f"a{'n' * (what[0] in 'aeio')} {what}"


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a real number, Python's or NumPy's, but not a bool."""
    return isinstance(value, (int, float, numbers.Real)) and not isinstance(value, bool)


def is_integer(value: object) -> TypeGuard[int]:
    """Whether `value` is an integer, Python's or NumPy's, but not a bool."""
    return isinstance(value, (int, numbers.Integral)) and not isinstance(value, bool)


def plain(value: object) -> object:
    """Convert a NumPy scalar to Python's number, bool or text; return other values unchanged.

    Values are converted before they are stored, compared or written: JSON and msgspec do not know
    NumPy scalars.

    Example:
        >>> import numpy as np
        >>> plain(np.float64(0.1)), plain(np.bool_(True)), plain("sgd")
        (0.1, True, 'sgd')
    """
    return value.item() if isinstance(value, np.generic) else value


def as_number(name: str, value: object) -> float:
    """`value`, or a TypeError unless it is a real number."""
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    return value


def check_floating(name: str, value: object) -> None:
    """Raise a TypeError unless `value` is a tensor that the ops compute with."""
    if not isinstance(value, Tensor) or value.dtype not in FLOATING:
        raise TypeError(
            f"{name} must be a tensor of float64, float32, bfloat16 or float16, got "
            f"{describe(value)}"
        )


def check_logits(name: str, value: object) -> None:
    """Raise unless `value` is [B, K >= 2] floating point."""
    check_floating(name, value)
    assert isinstance(value, Tensor)
    if value.dim() != 2:
        raise ValueError(f"{name} must have shape [B, K], got {describe(value)}")
    if value.shape[1] < 2:
        raise ValueError(f"{name} must have at least two classes, got {describe(value)}")


def check_same(name: str, value: object, like_name: str, like: Tensor) -> None:
    """Raise unless `value` has the shape, dtype and device of `like`."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {describe(value)}")
    if value.shape != like.shape:
        raise ValueError(
            f"{name} must have the shape of {like_name}, {list(like.shape)}, got {describe(value)}"
        )
    if value.dtype != like.dtype:
        raise TypeError(
            f"{name} must have the dtype of {like_name}, {str(like.dtype).removeprefix('torch.')}, "
            f"got {describe(value)}"
        )
    check_device(name, value, like_name, like)


def check_device(name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """Raise a ValueError unless `value` is on the device of `like`."""
    if value.device != like.device:
        raise ValueError(
            f"{name} must be on the device of {like_name}, {like.device}, got {value.device}"
        )


def check_one_of(name: str, value: object, known: Iterable[str]) -> None:
    """Raise a ValueError unless `value` is among the known names; it suggests the nearest one.

    Example:
        >>> check_one_of("method", "fst", ["fast", "search"])
        Traceback (most recent call last):
        ValueError: method must be one of fast, search, got 'fst'; did you mean fast?
    """
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise ValueError(not_among(name, value, known))


def not_among(name: str, value: object, known: Sequence[str]) -> str:
    """The message of `check_one_of`."""
    return f"{name} must be one of {', '.join(known)}, got {value!r}{meant(value, known)}"


def check_in_place(name: str, value: Tensor) -> None:
    """Raise a ValueError unless `value` can be changed in place by a kernel."""
    if not value.is_contiguous():
        raise ValueError(
            f"{name} must be contiguous, because it is changed in place, got strides "
            f"{value.stride()}"
        )


def check_per_sample(
    name: str, value: object, dtype: torch.dtype, like_name: str, like: Tensor
) -> None:
    """Raise unless `value` is [B], of that dtype, on the device of `like`."""
    if not isinstance(value, Tensor) or value.dtype != dtype:
        kind = with_article(str(dtype).removeprefix("torch."))
        raise TypeError(f"{name} must be {kind} tensor, got {describe(value)}")
    if value.shape != like.shape[:1]:
        raise ValueError(
            f"{name} must have one value per sample, shape [{like.shape[0]}], got {describe(value)}"
        )
    check_device(name, value, like_name, like)


def check_model(model: object) -> None:
    """Raise a TypeError unless `model` can be called on x."""
    if not callable(model):
        raise TypeError(f"model must be callable, got {type(model).__name__}")
    if isinstance(model, type):
        raise TypeError(f"model must be an object, got the class {model.__name__}: make one of it")


def check_module(model: object) -> None:
    """Raise a TypeError unless `model` is a `torch.nn.Module`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {describe(model)}")


def output_logits(output: object) -> Tensor:
    """The tensor that a model returned, or its `.logits`."""
    logits = getattr(output, "logits", output)
    if not isinstance(logits, Tensor):
        raise TypeError(
            "model must return a tensor of logits, or an object with .logits, "
            f"got {type(output).__name__}"
        )
    return logits


def check_batch(x: object) -> None:
    """Raise unless `x` is [B, ...] floating point."""
    check_floating("x", x)
    assert isinstance(x, Tensor)
    if x.is_nested or x.is_mkldnn:
        check_dense("x", x)
    if x.dim() < 1:
        raise ValueError(f"x must have a batch dimension, got {describe(x)}")


def check_dense(name: str, value: Tensor) -> None:
    """Raise a TypeError if `value` is sparse, nested or in a layout of MKL-DNN."""
    if value.layout is not torch.strided or value.is_nested:
        dense = "torch.nested.to_padded_tensor(x, 0.0)" if value.is_nested else "x.to_dense()"
        raise TypeError(f"{name} must be a dense tensor, got {describe(value)}; give {dense}")


def check_number(
    name: str,
    value: object,
    *,
    above: float = 0,
    least: float | None = None,
    below: float = math.inf,
    most: float | None = None,
) -> None:
    """Raise unless `value` is a finite number greater than `above` and less than `below`.

    An end that belongs to the range is given as `least` or `most` instead.

    Example:
        >>> check_number("eps", 0, least=0)
        >>> check_number("eps", 0)
        Traceback (most recent call last):
        ValueError: eps must be finite and greater than 0, got 0
        >>> check_number("share", 1.5, most=1)
        Traceback (most recent call last):
        ValueError: share must be greater than 0 and at most 1, got 1.5
    """
    number = as_number(name, value)
    enough = above < number if least is None else least <= number < math.inf
    if enough and (number < below if most is None else number <= most):
        return
    low = f"greater than {above}" if least is None else f"at least {least}"
    expected = f"{low} and less than {below}" if most is None else f"{low} and at most {most}"
    if most is None and below == math.inf:
        expected = f"finite and {low}"
    elif least is not None and most is not None:
        expected = f"from {least} to {most}"
    raise ValueError(f"{name} must be {expected}, got {value!r}")


def check_count(name: str, value: object, *, least: int = 1, bits: int = 63) -> None:
    """Raise a ValueError unless `value` is an integer, Python's or NumPy's, from `least` on.

    It must be below 2**bits: beyond int64 torch, NumPy and the clock raise their own errors.
    """
    if not is_integer(value) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if value >= 2**bits:
        raise ValueError(f"{name} must be less than 2**{bits}, got {value}")


def check_integer(name: str, value: object, *, least: int = 1, bits: int = 63) -> None:
    """As `check_count`, but what is no integer is a TypeError."""
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    check_count(name, value, least=least, bits=bits)


def check_once(name: str, values: object) -> None:
    """Raise unless `values` is a list or tuple in which nothing occurs, and so counts, twice."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be several, in a list or tuple, got {describe(values)}")
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ValueError(f"{name} must name each once, and {twice[0]} is there twice")


def check_pixels(name: str, x: Tensor) -> None:
    """Raise a ValueError unless all pixels are in [0, 1]; it waits for their device."""
    if x.numel():
        least, most = (float(end) for end in x.detach().aminmax())
        if not 0 <= least <= most <= 1:  # NaN too
            raise ValueError(f"{name} must be in [0, 1], got pixels from {least:g} to {most:g}")


def check_finite(name: str, x: Tensor) -> None:
    """Raise a ValueError for the first row of x [n, ...] that is not finite."""
    wrong = (~x.flatten(1).isfinite().all(dim=1)).nonzero()
    if len(wrong):
        raise ValueError(f"{name} must be finite, and is not in row {int(wrong[0])}")


def check_bool(name: str, value: object) -> None:
    """Raise a TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {describe(value)}")


def check_labels(name: str, value: object, classes: int | None) -> None:
    """Raise unless `value` is [n], integers, each a class from 0 to `classes` - 1.

    The only check of labels. It reads them, so it waits for their device. Wrong labels would do
    harm later: on a GPU they fail an assertion in cross-entropy, which ends the process, and a
    comparison with the prediction would silently count them as errors. `classes` is None where
    their number is not known yet. The message has the first label out of range, and its row.
    """
    if not isinstance(value, Tensor) or value.dtype not in INTEGERS:
        raise TypeError(f"{name} must be a tensor of integers, got {describe(value)}")
    if value.dim() != 1:
        raise ValueError(f"{name} must have shape [n], got {describe(value)}")
    if len(value) == 0:
        return
    least, most = (int(end) for end in value.aminmax())
    if least >= 0 and (classes is None or most < classes):
        return
    # In int64, where no number of classes wraps around.
    labels = value.long()
    wrong = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    row = int(wrong.nonzero()[0])
    expected = "labels of at least 0"
    if classes is not None:
        expected = f"labels of {classes} classes, from 0 to {classes - 1}"
    raise ValueError(f"{name} must be {expected}, and has {int(labels[row])} in row {row}")


def check_path(name: str, value: object) -> None:
    """Raise a TypeError unless `value` is a path, as text or as a `pathlib.Path`."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, str or pathlib.Path, got {describe(value)}")


def check_folder(name: str, folder: Path) -> None:
    """Raise a NotADirectoryError if a file has the path of the folder or of one of its parents.

    Or an OSError or ValueError if no folder can have this name, for example as it is too long.
    """
    with _told_of_folder(name, folder):
        there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
        if there is None or there.is_dir():
            return
        if there != folder:
            raise NotADirectoryError(errno.ENOTDIR, f"{there} is a file")
    raise NotADirectoryError(f"{name} must be a folder, and {folder} is a file: give another")


def make_folder(name: str, folder: Path) -> None:
    """Make the folder and its missing parents, or raise an OSError or ValueError that says why not.

    The message calls it `name`.
    """
    check_folder(name, folder)
    with _told_of_folder(name, folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _told_of_folder(name: str, folder: Path) -> Iterator[None]:
    """Name the folder in the system's errors; an OSError keeps its class and number."""
    said = f"{name} must be a folder that can be made, and {str(folder)!r} cannot be"
    try:
        yield
    except OSError as error:
        raise retold(error, f"{said}: {error.strerror}") from error
    except ValueError as error:  # of a null byte in the name
        raise ValueError(f"{said}: {error}") from error


def check_seed(name: str, value: object) -> None:
    """Raise unless `value` is an integer that a generator of torch takes."""
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not -(2**63) <= int(value) < 2**64:
        raise ValueError(f"{name} must be from -2**63 to 2**64 - 1, got {value}")


def words_of(name: str, text: str) -> list[str]:
    """Split a name and its options as a shell does; a quote that is not closed is a ValueError.

    Example:
        >>> words_of("data", "cifar10 'folder=my data'")
        ['cifar10', 'folder=my data']
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"{name} must be a name and its options, quoted as in a shell, got {text!r}: {error}"
        ) from error


def meant(name: object, known: Iterable[str], *, most: int = 1) -> str:
    """The end of an error message about a name: at `most` so many similar ones, or its compounds.

    Example:
        >>> meant("digit", ["cifar10", "digits"])
        '; did you mean digits?'
        >>> meant("resnet5", ["resnet50", "resnet56", "vgg"], most=2)
        '; did you mean resnet56 or resnet50?'
        >>> meant("MSR", ["msr"]), meant("fast", ["msr", "radius_fast"])
        ('; did you mean msr?', '; did you mean radius_fast?')
    """
    name, lower = str(name).lower(), {each.lower(): each for each in known}
    words = [each for each in lower if name in each.split("_")]
    close = [lower[each] for each in (difflib.get_close_matches(name, lower) or words)[:most]]
    return f"; did you mean {' or '.join(close)}?" if close else ""
