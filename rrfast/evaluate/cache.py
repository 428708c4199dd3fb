"""Finished parts of the evaluation of one model, kept on disk."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rrfast import _checksummed
from rrfast._machine import machine
from rrfast._processes import once
from rrfast._results import for_json
from rrfast.data.fingerprint import of_data
from rrfast.data.tasks import Task
from rrfast.scores.registry import score_named
from rrfast.selective.classifier import weights_hash


class Cache:
    """Parts of a result by name, written as they are made, so that an interrupted run can continue.

    Each pair of model and study has its own file in `folder`, whose name begins with `stem`. It
    depends on `identity`, which is everything that the parts depend on, except what their names
    say; neither on the model's name nor on the other models that are evaluated.

    Raises:
        ValueError: The file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = Cache(folder, "misd", {"weights": "a"}).get("x", lambda: {"n": 1})
        ...     again = Cache(folder, "misd", {"weights": "a"}).get("x", lambda: 1 / 0)
        ...     Cache(folder, "misd", {"weights": "b"}).has("x")
        False
        >>> first == again
        True
    """

    def __init__(self, folder: Path | str, stem: str, identity: dict[str, Any]) -> None:
        text = json.dumps(for_json(identity), sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._path = Path(folder) / f"{stem}_{name}.json"
        empty: dict[str, Any] = {"identity": for_json(identity), "known": {}}
        # Processes that share the work go on from the same parts.
        self._state = once(
            lambda: _checksummed.read_json(self._path) if self._path.is_file() else empty
        )

    def has(self, key: str) -> bool:
        """Whether the part is there."""
        return key in self._state["known"]

    def get(self, key: str, make: Callable[..., Any] | None = None, *arguments: Any) -> Any:
        """The part; if it is not there, it is made from the arguments."""
        if make is not None and not self.has(key):
            self.put({key: make(*arguments)})
        return self._state["known"][key]

    def put(self, entries: dict[str, Any]) -> None:
        """Add these parts."""

        def kept() -> dict[str, Any]:
            found: dict[str, Any] = for_json(entries)  # as they will be read back: without NaN
            _checksummed.write_json(self._path, {**self._state, "known": known | found})
            return found

        known: dict[str, Any] = self._state["known"]
        known.update(once(kept))

    def together(
        self, keys: Mapping[str, str], make: Callable[[list[str]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The parts under these keys, by their names; the missing ones are made in one call."""
        missing = [name for name, key in keys.items() if not self.has(key)]
        if missing:
            self.put({keys[name]: part for name, part in make(missing).items()})
        return {name: self.get(key) for name, key in keys.items()}


def packed(values: Tensor) -> str:
    """Float64 as text, exact to the bit, because numbers in JSON cannot be infinite.

    Example:
        >>> unpacked(packed(torch.tensor([0.1, torch.inf])))
        tensor([0.1000,    inf], dtype=torch.float64)
    """
    return base64.b64encode(values.double().numpy().astype("<f8").tobytes()).decode()


def unpacked(text: str) -> Tensor:
    """The inverse of `packed`."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f8").astype(np.float64))


def of_score(name: str) -> str:
    """A score in the name of a part: its name and a hash of its options.

    Example:
        >>> of_score("msr")
        'msr 1a8fc8f11c5a'
    """
    told = score_named(name).identity
    return f"{name} {hashlib.sha256(told.encode()).hexdigest()[:12]}"


def identity(model: nn.Module, task: Task, device: torch.device) -> dict[str, Any]:
    """Everything that the numbers depend on, except the code of a model: its edits go unnoticed."""
    # `Normalize` does not put its statistics into the state_dict.
    form = hashlib.sha256(str(model).encode())
    for name, value in model.named_buffers():
        form.update(f"{name} {value.tolist()}".encode())
    return {
        "weights": weights_hash(model),
        "model": form.hexdigest(),
        "data": [of_data(data) for data in (task.validation, task.test)],
        **machine(device)["versions"],
    }
