"""`rrfast bench`: cost and quality of every method on this machine.

The paper's Table 4 (AUROC, FPR95, AURC, images per second) for your own model and data, with
passes, memory, agreement with RR-BS, and two baselines: MSR, and the loop of the released code.

    >>> import tempfile
    >>> from rich.console import Console
    >>> settings = Settings(methods=("grad",), batch=(8,), samples=8, seconds=0.01)
    >>> with tempfile.TemporaryDirectory() as out:
    ...     result = run(settings, out, Console(quiet=True))
    >>> [row["method"] for row in result["throughput"]]
    ['msr', 'naive loop', 'grad']
"""

from rrfast.bench.benchmark import run
from rrfast.bench.settings import SMOKE, Settings

__all__ = ["SMOKE", "Settings", "run"]
