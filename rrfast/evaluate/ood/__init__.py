"""Out-of-distribution detection: the evaluation of ODIN, and that of ACET.

`evaluate` tunes every score on one out-of-distribution set and tests it on others, which `OUTSIDE`
names; `tables`, `claims` and `figures` present the results.
"""

from rrfast.evaluate.ood.protocol import SETS, STUDY, evaluate
from rrfast.evaluate.ood.sets import OUTSIDE

__all__ = ["OUTSIDE", "SETS", "STUDY", "evaluate"]
