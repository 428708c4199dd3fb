"""Names of the variants of a training, for commands, and as printed in tables."""

from __future__ import annotations

from rrfast._checks import check_one_of

#: Variants and their printed names: an objective, or one with an option of `ENDINGS`.
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
#: Endings of variants' names, and the option of the objective that only these set: the alpha of
#: Mixup in the first term, the tau of IRAT's margin reweighting.
ENDINGS = {"_mixup": "mixup", "_margin": "tau"}
#: Ending of the printed name of a training with IRAT's signs of Eq. 15 or 16 as printed.
PRINTED = " (as printed)"


def check_variant(name: str) -> None:
    """Raise a ValueError unless the name is in `VARIANTS`."""
    check_one_of("variant", name, VARIANTS)
