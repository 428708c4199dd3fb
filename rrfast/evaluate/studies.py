"""Every kind of evaluation by the name of its protocol; a new one is a package and a line here."""

from __future__ import annotations

from rrfast.evaluate import ablation, demo, distal, misd, ood, robust
from rrfast.evaluate.study import Study

STUDIES: dict[str, Study] = {
    "misd": misd.STUDY,
    "ood": ood.STUDY,
    "robust": robust.STUDY,
    "distal": distal.STUDY,
}
#: The same and those of other commands: all that `rrfast report` shows as tables and figures.
REPORTED: tuple[Study, ...] = (*STUDIES.values(), ablation.STUDY, demo.STUDY)
