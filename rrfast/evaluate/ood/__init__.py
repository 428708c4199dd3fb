"""Out-of-distribution detection: the evaluation of ODIN, and that of ACET.

`evaluate` tunes every score against one out-distribution and holds it against others, which
`OUTSIDE` names; `tables`, `claims` and `figures` say what came out.
"""

from rrfast.evaluate.ood.outside import OUTSIDE
from rrfast.evaluate.ood.protocol import AGAINST, SETS, STUDY, evaluate

__all__ = ["AGAINST", "OUTSIDE", "SETS", "STUDY", "evaluate"]
