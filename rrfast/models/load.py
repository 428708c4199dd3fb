"""Models by name, from a package or by your own function. Never downloads anything."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rrfast import _checksummed
from rrfast._checks import check_count, check_seed, meant
from rrfast._errors import first_line, require
from rrfast._named_function import lacking, named_function, parameters_of, takes_any
from rrfast._names import SPECIFICATIONS
from rrfast._seeds import weights_by

#: Modules with this library's own models; a name that ends in .py would be a file.
_OWN = re.compile(r"rrfast\.(data|models)(\.\w+)*(?<!\.py)")


def load_model(
    spec: str,
    *,
    classes: int | None = None,
    weights: Path | str | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a model by its specification, with random weights or those of a file.

    ==========================  ============================================================
    specification               example
    ==========================  ============================================================
    pytorchcv:NAME              pytorchcv:resnet20_cifar10, pytorchcv:wrn28_10_cifar10
    torchvision:NAME            torchvision:resnet50
    timm:NAME                   timm:convnext_tiny
    importable.module:function  rrfast.models:synthetic_cnn; `classes` and `seed` if it takes them
    path/to/file.py:function    nets/mine.py:build; likewise
    ==========================  ============================================================

    Only the file of pytorchcv that defines the name is imported, so torchvision is not needed; wide
    ResNets of any depth and width are available by name, such as wrn16_4_cifar10.

    Networks of the same depth may differ: pytorchcv's resnet110_cifar10 is He et al.'s ResNet, with
    BatchNorm and ReLU after each convolution and a ReLU after every sum (post-activation);
    preresnet110_cifar10 has BatchNorm and ReLU before each convolution, no ReLU after sums, and one
    BatchNorm and ReLU after the last (pre-activation). ResNet110 in OpenMix's code is the latter.

    Args:
        spec: The specification, see above.
        classes: Number of logits, at least 2: the argument `num_classes` of a package's model, or
            `classes` of your function. None: the model's default.
        weights: A file with a state_dict, in the format of safetensors if its name ends so, else as
            written by `torch.save(model.state_dict(), ...)`; no code in it is run. None: random
            weights.
        seed: Decides the random weights; passed to your function if it has an argument `seed`. The
            global random state is restored.
        options: Further arguments of the package's model or of your function, by name, such as
            {"channels": 1} for `preresnet20` and {"in_chans": 1} for a model of timm.

    Returns:
        The module, on the CPU, in the mode in which it was built (usually training mode).

    Raises:
        ImportError: The package or module is not installed, or safetensors for such weights.
        FileNotFoundError: There is no such file.
        TypeError: The function does not return an `nn.Module`.
        ValueError: Another form, an unknown name, weights of another model, an option that the
            model does not have; `classes` is not an integer of at least 2, or the model has no
            argument for it.

    Source: He et al. (2016), "Deep Residual Learning for Image Recognition" (post-activation) and
    "Identity Mappings in Deep Residual Networks" (pre-activation);
    https://github.com/Impression2805/OpenMix, model/resnet.py.

    Example:
        >>> import torch
        >>> sum(p.numel() for p in load_model("rrfast.models:synthetic_cnn").parameters())
        24346
        >>> load_model("rrfast.models:synthetic_cnn", classes=100)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 100])
    """
    source, colon, name = spec.rpartition(":")
    if not (source and colon and name):
        raise ValueError(f"model must be one of {SPECIFICATIONS}, got {spec!r}")
    if classes is not None:
        check_count("classes", classes, least=2)
    check_seed("seed", seed)
    if source in _ZOOS:
        build, keyword = _ZOOS[source](name), "num_classes"
    else:
        build, keyword = named_function("model", spec, known=SPECIFICATIONS), "classes"
    if classes is not None and not (keyword in parameters_of(build) or takes_any(build)):
        raise ValueError(
            f"model {spec!r} must take the number of its logits, here {classes}, as an argument "
            f"{keyword}, and does not: add it, if the function is yours"
        )
    arguments = dict(options or {})
    _check_options(arguments, spec, build, keyword)
    if classes is not None:
        arguments[keyword] = int(classes)
    if source not in _ZOOS and "seed" in parameters_of(build):
        arguments["seed"] = seed  # it may seed itself
    if missing := lacking(build, arguments):
        default = "; a default for it lets every command build the model"
        raise ValueError(
            f"model must name a function without further arguments, and {spec!r} needs "
            f"{', '.join(missing)}{default * (missing == [keyword])}"
        )
    with weights_by(seed):
        model = build(**arguments)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model {spec!r} must return an nn.Module, got {type(model).__name__}")
    if weights is not None:
        _load_weights(model, spec, Path(weights))
    return model


def runs_foreign_code(spec: str) -> bool:
    """Whether building the model runs code from outside rrfast and the supported packages.

    Example:
        >>> runs_foreign_code("rrfast.models:digits_cnn"), runs_foreign_code("timm:convnext_tiny")
        (False, False)
        >>> runs_foreign_code("nets/mine.py:build"), runs_foreign_code("os:abort")
        (True, True)
    """
    source = spec.rpartition(":")[0]
    return source not in _ZOOS and _OWN.fullmatch(source) is None


def _load_weights(model: nn.Module, spec: str, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"weights must be a file with a state_dict, got {str(path)!r}")
    try:
        model.load_state_dict(_checksummed.read_state(path))
    except (ImportError, OSError):  # of safetensors, of the file
        raise
    except Exception as error:  # a file may contain anything, and raise anything
        first = first_line(error)
        raise ValueError(
            f"weights must be a state_dict of {spec!r}, but {str(path)!r} is not: {first}"
        ) from error


def _check_options(
    options: Mapping[str, Any], spec: str, build: Callable[..., Any], keyword: str
) -> None:
    """Raise a ValueError for an option that the function lacks, or that has its own argument."""
    arguments = {keyword: "classes", "seed": "seed"}
    known = [name for name in parameters_of(build) if name not in arguments]
    for name in options:
        if name in arguments:
            raise ValueError(
                f"options must not have {name}, which is the argument {arguments[name]}"
            )
        if name not in known and not takes_any(build):
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise ValueError(
                f"options has {name}, which {spec!r} does not take; it {takes}{meant(name, known)}"
            )


def _pytorchcv(name: str) -> Callable[..., Any]:
    # Its model_provider imports every model, and torchvision with them, so search the files.
    package = _imported("pytorchcv", "pytorchcv", "--no-deps pytorchcv")
    files = sorted(Path(package.__path__[0], "models").glob("*.py"))
    defined = {
        function: file.stem
        for file in files
        for function in re.findall(
            r"^def ([a-z]\w*)\(", file.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    wide = re.fullmatch(r"wrn(\d+)_(\d+)_(cifar10|cifar100|svhn)", name)
    if name not in defined and wide:
        depth, width, data = int(wide[1]), int(wide[2]), wide[3]
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(
                f"a wide ResNet must have 6 n + 4 layers, such as 16, 22, 28 or 40, got {name!r}"
            )
        module = importlib.import_module("pytorchcv.models.wrn_cifar")
        default = 100 if data == "cifar100" else 10
        return lambda num_classes=default: module.get_wrn_cifar(
            num_classes, blocks=depth, width_factor=width
        )
    _check_known("pytorchcv", name, list(defined))
    module = importlib.import_module(f"pytorchcv.models.{defined[name]}")
    return _of_any_number(getattr(module, name))


def _of_any_number(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of pytorchcv that accepts any number of classes."""

    @functools.wraps(function)
    def build(**arguments: int) -> Any:
        try:
            return function(**arguments)
        except AssertionError:
            # Most functions for CIFAR assert that there are 10 or 100 classes. Only the last layer
            # depends on the number; its replacement keeps the weights that nn.Linear draws.
            model = function()
            last = getattr(model, "output", None)
            if not isinstance(last, nn.Linear):
                raise
            model.num_classes = arguments["num_classes"]
            model.output = nn.Linear(last.in_features, model.num_classes, last.bias is not None)
            return model

    return build


def _torchvision(name: str) -> Callable[..., Any]:
    models = _imported("torchvision.models", "torchvision")
    _check_known("torchvision", name, models.list_models())
    return functools.partial(models.get_model, name, weights=None)


def _timm(name: str) -> Callable[..., Any]:
    timm = _imported("timm", "timm")
    _check_known("timm", name, timm.list_models())
    return functools.partial(timm.create_model, name, pretrained=False)


#: The prefix before the colon, and the function that finds the rest.
_ZOOS = {"pytorchcv": _pytorchcv, "torchvision": _torchvision, "timm": _timm}


def _imported(module: str, package: str, install: str = "") -> Any:
    require(f"a model of {package}", module, package, install)
    return importlib.import_module(module)


def _check_known(zoo: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise ValueError(
            f"{zoo} has no model {name!r} among its {len(known)}{meant(name, known, most=3)}"
        )
