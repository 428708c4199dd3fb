"""The 15 common corruptions of ImageNet-C, reimplemented for images of any task.

`corrupt` applies one of them to a batch. The corruptions are in `noise`, `blur`, `weather` and
`digital`: each is a function of the batch, random draws and parameters, which `table.TABLE` has for
the five severities. To add one, add a function and a row of that table.
"""

from rrfast.data.corruptions.table import corrupt

__all__ = ["corrupt"]
