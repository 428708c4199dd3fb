"""A fault in a source text: one edit, of Python in `mutation`, of CUDA in `emulation`."""

from __future__ import annotations


def edited(text: str, where: str, fault: str, old: str, new: str, times: int = 1) -> str:
    """The text with the fault.

    Args:
        text: The source.
        where: Its file.
        fault: What is wrong then, in words.
        old: What the fault changes.
        new: Into what.
        times: How often it stands there.

    Raises:
        ValueError: It stands there more or less often.
    """
    found = text.count(old)
    if found != times:
        raise ValueError(f"'{fault}' changes what {where} has {found} times, not {times}: {old!r}")
    return text.replace(old, new)
