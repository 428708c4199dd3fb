"""What ODIN prints, and what its formulas can give (errata 30 to 32)."""

from __future__ import annotations

#: Table 2, in per cent: FPR at 95 % TPR, detection error and AUROC, of the baseline and of ODIN.
CIFAR10 = {
    "TinyImageNet (crop)": ((34.7, 10.0, 95.3), (4.3, 4.7, 99.1)),
    "TinyImageNet (resize)": ((40.8, 11.5, 94.1), (7.5, 6.1, 98.5)),
    "LSUN (crop)": ((39.3, 10.2, 94.8), (11.4, 7.2, 97.9)),
    "LSUN (resize)": ((33.6, 9.8, 95.4), (3.8, 4.4, 99.2)),
    "Uniform": ((23.5, 5.3, 96.5), (0.0, 0.5, 99.0)),
    "Gaussian": ((12.3, 4.7, 97.5), (0.0, 0.2, 100.0)),
}
CIFAR100 = {
    "TinyImageNet (crop)": ((67.8, 36.4, 83.0), (26.9, 12.9, 94.5)),
    "TinyImageNet (resize)": ((82.2, 43.6, 70.4), (57.0, 22.7, 85.5)),
    "LSUN (crop)": ((69.4, 37.2, 83.7), (18.6, 9.7, 96.6)),
    "LSUN (resize)": ((83.3, 44.1, 70.6), (58.0, 22.3, 86.0)),
    "Uniform": ((100.0, 35.86, 43.1), (100.0, 17.9, 99.5)),
    "Gaussian": ((100.0, 41.2, 30.6), (100.0, 38.0, 40.5)),
}
PRINTED = [
    (data, name, score, *numbers)
    for data, table in (("CIFAR-10", CIFAR10), ("CIFAR-100", CIFAR100))
    for name, both in table.items()
    for score, numbers in zip(("baseline", "ODIN"), both, strict=True)
]
#: The most that a number with one digit behind the point was rounded by, and a hair.
ROUNDED = 0.05 + 1e-9


def test_most_detection_errors_are_not_those_of_the_formula() -> None:
    """P_e = 0.5 (1 - TPR) + 0.5 FPR at 95 % TPR gives 6 of 24; all are at most that, as a minimum.

    The formula moves by half of what the rate was rounded by.
    """
    assert len(PRINTED) == 24
    formula = {row[:3]: 2.5 + row[3] / 2 for row in PRINTED}
    error = {row[:3]: row[4] for row in PRINTED}
    given = [key for key in error if abs(error[key] - formula[key]) <= ROUNDED + ROUNDED / 2]
    assert given == [
        ("CIFAR-10", "TinyImageNet (crop)", "ODIN"),
        ("CIFAR-10", "LSUN (resize)", "ODIN"),
        ("CIFAR-100", "TinyImageNet (crop)", "baseline"),
        ("CIFAR-100", "TinyImageNet (resize)", "baseline"),
        ("CIFAR-100", "LSUN (crop)", "baseline"),
        ("CIFAR-100", "LSUN (resize)", "baseline"),
    ]
    assert all(error[key] <= formula[key] + ROUNDED + ROUNDED / 2 for key in error)


def test_no_curve_has_the_area_that_is_printed_beside_its_rates() -> None:
    """A curve that reaches 95 % TPR at an FPR f has an area of at most 0.95 f + 1 - f.

    One whose least error is e lies below TPR = FPR + 1 - 2 e, with an area of at most 1 - 2 e^2:
    four errors of the baseline, which the formula gives, are no least ones, so that the column
    holds both kinds.
    """
    above = {}
    for *key, fpr, error, auroc in PRINTED:
        f, e = (max(x - ROUNDED, 0.0) / 100 for x in (fpr, error))
        above[tuple(key)] = [auroc - ROUNDED > 100 * most for most in (1 - 0.05 * f, 1 - 2 * e**2)]
    assert {key: found for key, found in above.items() if any(found)} == {
        ("CIFAR-100", "TinyImageNet (crop)", "baseline"): [False, True],
        ("CIFAR-100", "TinyImageNet (resize)", "baseline"): [False, True],
        ("CIFAR-100", "LSUN (crop)", "baseline"): [False, True],
        ("CIFAR-100", "LSUN (resize)", "baseline"): [False, True],
        ("CIFAR-100", "Uniform", "ODIN"): [True, True],
    }
