"""Methods that measure the robust radius: a file each, and a line in `rrfast/_names.py`.

`rrfast.radius` takes a name and options, or one of these objects, whose fields are the options.
"""

from rrfast.methods.bs import BS
from rrfast.methods.deepfool import DeepFool
from rrfast.methods.fab import FAB
from rrfast.methods.fast import Fast
from rrfast.methods.fmn import FMN
from rrfast.methods.grad import Grad
from rrfast.methods.measure import RadiusResult
from rrfast.methods.method import Compat, Estimate, Method
from rrfast.methods.pgd import PGD
from rrfast.methods.refined import Refined
from rrfast.methods.registry import METHODS
from rrfast.methods.search import Search

__all__ = [
    "BS",
    "FAB",
    "FMN",
    "METHODS",
    "PGD",
    "Compat",
    "DeepFool",
    "Estimate",
    "Fast",
    "Grad",
    "Method",
    "RadiusResult",
    "Refined",
    "Search",
]
