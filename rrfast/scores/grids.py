"""The hyper-parameter grids of the papers.

Of several points that are equally good, a search takes the first.
"""

from __future__ import annotations

#: RAT B.1: T of every softmax and of the radius' direction: 15 values.
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 2.0, 2.5, 3.0, 100.0, 1000.0)

#: RAT B.1: size of the input pre-processing step, for pixels in [0, 1]: 12 values, the first is 0.
EPSILONS = (
    *(0.0, 0.00005, 0.0001, 0.00015, 0.0002, 0.00025),
    *(0.0003, 0.00035, 0.0004, 0.0006, 0.0008, 0.001),
)

#: ODIN §4.4: 10 temperatures and 21 steps.
ODIN_GRIDS = {
    "temperature": (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
    "eps": tuple(i / 5000 for i in range(21)),
}

#: p of MaxLogit-pNorm's norm: 9 values. The paper's code also has 0, which is not a norm.
NORMS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
