"""Tables and figures of the papers, made from trainings."""

from rrfast.evaluate.ablate import ablate

__all__ = ["ablate"]
