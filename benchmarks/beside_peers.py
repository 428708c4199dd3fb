"""`rrfast bench --peers` with what a peer imports and does not use:

    python -m benchmarks.beside_peers OPTIONS OF RRFAST BENCH

adv-lib imports torchvision for a perceptual distance, and torchvision must fit torch;
`python_tests/peers.py` stands in for it. The peers, without what they ask for, which could bring
another torch:

    pip install --no-deps adv-lib==0.2.8 torchattacks==3.5.1 captum==0.9.0 foolbox==3.3.4 eagerpy \\
        gitpython gitdb smmap requests urllib3 idna charset_normalizer certifi

autoattack is at https://github.com/fra31/auto-attack only.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path

from rrfast.cli import main

sys.path.append(str(Path(__file__).parents[1] / "python_tests"))
from peers import stand_ins

if __name__ == "__main__":
    with stand_ins(), contextlib.suppress(ImportError):
        importlib.import_module("adv_lib.attacks")
    sys.exit(main(["bench", "--peers", *sys.argv[1:]]))
