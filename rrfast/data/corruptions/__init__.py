"""The 15 common corruptions of ImageNet-C, reimplemented for images of any task.

`corrupt` takes a batch through one of them. The corruptions lie by families in `noise`, `blur`,
`weather` and `digital`: each is a function of the batch, its draws and its strengths, which
`table.TABLE` has for the five severities. Another one is a function and a row of that table.
"""

from rrfast.data.corruptions.table import corrupt

__all__ = ["corrupt"]
