"""`rrfast` without a command: prints the configuration."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rrfast import _native
from rrfast._config import config


def print_configuration() -> None:
    """Print `rrfast.config()` as two tables: versions, then what runs each op and why."""
    found, console = config(), Console()
    cuda = found["cuda"]
    versions = Table("", "", show_header=False, box=None)
    for name in ("rrfast", "torch", "python", "platform"):
        versions.add_row(name, found[name])
    versions.add_row("build", escape(_native.describe_build()))
    versions.add_row("torch's CUDA", cuda["torch"] or "none")
    versions.add_row("driver", cuda["driver"] or "none")
    versions.add_row("devices", escape("\n".join(cuda["devices"]) or "no GPU"))
    console.print(versions)

    ops = Table("op", "cpu", "cuda", box=box.SIMPLE)
    for name, answers in found["ops"].items():
        ops.add_row(name, *(_coloured(answers[device]) for device in ("cpu", "cuda")))
    console.print(ops)
    for device, library in found["libraries"].items():
        reason = f": {library['reason']}" if library["reason"] else ""
        line = escape(f"  {device} kernels {library['state']}{reason}")
        console.print(line, soft_wrap=True, highlight=False)


def _coloured(answer: str) -> str:
    return f"[green]{answer}[/]" if answer == "kernel" else f"[yellow]{answer}[/]"
