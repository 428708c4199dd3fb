"""Names of trainings that are compared, as commands take them and as tables print them."""

from __future__ import annotations

from rrfast._checks import check_one_of

#: What can be compared, and how it is printed: an objective, or one with an option of `ENDINGS`.
VARIANTS = {
    "standard": "Standard",
    "mixup": "Mixup",
    "regmixup": "RegMixup",
    "openmix": "OpenMix",
    "at": "AT",
    "at_mixup": "AT + Mixup",
    "reverse_at": "ReverseAT",
    "reverse_at_mixup": "ReverseAT + Mixup",
    "rat": "RAT",
    "rat_mixup": "RAT + Mixup",
    "pgd_at": "PGD-AT",
    "gairat": "GAIRAT",
    "mail": "MAIL",
    "wmmr": "WMMR",
    "ewat": "EWAT",
    "mail_margin": "MAIL + reweighting",
    "wmmr_margin": "WMMR + reweighting",
    "ceda": "CEDA",
    "acet": "ACET",
    "ccat": "CCAT",
}
#: The end of a variant's name, and the option of its objective that is set there and nowhere else:
#: the alpha of Mixup in the first term, the tau of IRAT's margin reweighting.
ENDINGS = {"_mixup": "mixup", "_margin": "tau"}
#: What the printed name of a training ends with that has IRAT's signs of Eq. 15 or 16 as printed.
PRINTED = " (as printed)"


def check_variant(name: str) -> None:
    """Raise a ValueError unless it names one of `VARIANTS`."""
    check_one_of("variant", name, VARIANTS)
