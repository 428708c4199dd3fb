"""Files of `torch.save`: written completely or not at all, read with every byte checked."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from rrfast._errors import first_line
from rrfast._files import write


def save(path: Path, state: object) -> None:
    """`torch.save` by `rrfast._files.write`, with the checksums that `load` compares."""
    summed = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        write(path, lambda file: torch.save(state, file))
    finally:
        torch.serialization.set_crc32_options(summed)


def load(path: Path) -> dict[str, Any]:
    """The dict in a file of `torch.save`, on the CPU; no code in the file is run.

    `torch.load` does not notice a flipped bit: it does not compare the CRC-32 of the archive's
    records. This function finds every changed byte that changes what is read. Files of torch before
    1.6, and those saved with `torch.serialization.set_crc32_options(False)`, have no checksums:
    they are read unchecked.

    Raises:
        OSError: `path` cannot be opened.
        ValueError: It is damaged, truncated or another kind of file, or holds something else.

    Cost: `torch.load` and one more pass over the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "w.pt")
        ...     save(path, {"weight": torch.ones(2)})
        ...     load(path)
        {'weight': tensor([1., 1.])}
    """
    with path.open("rb") as file:
        try:
            _check_records(file)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # other bytes can raise anything
            first = first_line(error)
            if isinstance(error, pickle.UnpicklingError):
                # Torch's message goes on with how to run the code in the file.
                first = "it holds more than tensors and numbers, or is cut off"
            raise ValueError(
                f"{path} cannot be read as a file of torch.save ({first}): it is damaged, "
                "truncated or another kind of file"
            ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} must hold a dict, and holds {type(state).__name__}")
    return state


def _check_records(file: IO[bytes]) -> None:
    """Raise unless every record of the archive has the CRC-32 that was written with it.

    Compressed records are refused: torch does not write them, and they could unpack to any size.
    """
    archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if not archive:
        return  # a file of torch before 1.6, or not of torch at all, which `torch.load` reports
    with zipfile.ZipFile(file) as records:
        if any(record.compress_type != zipfile.ZIP_STORED for record in records.infolist()):
            raise ValueError("a record of it is compressed")
        # No single flipped bit makes all of them 0, so they were not computed.
        if any(record.CRC for record in records.infolist()):
            damaged = records.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of its record {damaged} does not fit")
    file.seek(0)
