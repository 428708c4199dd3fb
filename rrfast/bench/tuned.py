"""Methods with tuned temperature: RAT's Table 4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rrfast.bench.settings import Settings
from rrfast.bench.subject import Subject


def tuned(
    subject: Subject, settings: Settings, progress: Callable[[str, float], object]
) -> list[dict[str, Any]]:
    """A row for MSR and each method on each division of the data, as in `rrfast evaluate`.

    It uses float32. MSR has no temperature and no input pre-processing here: it is the bare forward
    that is timed.

    Returns:
        `method`, `split`, `seed` of the training, the `temperature`, `images`, `errors`,
        `chosen_on` (number of test images on which the weights were chosen), and the metrics of the
        test part.

    Raises:
        ValueError: The data lack the splits.

    Cost: that of `rrfast.scores.tune` on the tuning part, and of the method on the rest.

    Source: RAT §5.1, §5.4, Table 4.
    """
    # Imported here, because they are optional.
    from rrfast.data.splits import tested_on
    from rrfast.evaluate.misd import appraisal

    task, options = subject.task, appraisal.Options(batch=max(settings.batch))
    assert task is not None  # required by the settings
    _, chosen_on = tested_on(task, subject.checkpoint)
    names = {"msr": "msr"} | {method: f"radius_{method}" for method in settings.contestants()}
    grounds = list(
        appraisal.grounds(
            subject.model, task, settings.tuning, subject.seed, subject.x.device, options.batch
        )
    )
    rows: list[dict[str, Any]] = []
    for split, on in enumerate(grounds):
        for method, name in names.items():
            progress(method, len(rows) / (len(grounds) * len(names)))
            score, point, _ = appraisal.tuned(name, on, options)
            value = appraisal.measured(score, on, options)[0]
            rows.append(
                {
                    "method": method,
                    "split": split,
                    "seed": subject.seed,
                    "temperature": point.get("temperature"),
                    "images": len(value),
                    "errors": int((~on.correct).sum()),
                    "chosen_on": chosen_on if settings.tuning == "rat" else 0,
                    **appraisal.shown(value, on.correct),
                }
            )
    return rows
