"""Which label was taken for which: a matrix as a heat map, or the pairs that are confused most.

Shapes: L labels.
"""

import numpy as np

from mats_ray.evaluate.report.markup import count, scrolling, table, text
from mats_ray.evaluate.report.scores import Confusion

MAX_LABELS = 40
"""A matrix of more labels cannot be read."""
NUM_PAIRS = 20
_LABEL_CHARACTERS = 60


def confusion_html(confusion: Confusion, *, matrix: bool = True) -> str:
    """Show a confusion matrix: whole up to ``MAX_LABELS`` labels, else the most confused pairs.

    Args:
        confusion: Of one benchmark.
        matrix: False: pairs in any case.
    """
    if matrix and len(confusion.labels) <= MAX_LABELS:
        return _heat_map(confusion)
    return _pairs(confusion)


def most_confused(confusion: Confusion) -> list[tuple[int, int]]:
    """List pairs of a label and another one it was taken for, most frequent first, at most ``NUM_PAIRS``."""
    counts_LL = np.array(confusion.counts, dtype=np.int64).reshape(len(confusion.labels), -1)
    np.fill_diagonal(counts_LL, 0)
    order = np.argsort(-counts_LL, axis=None, kind="stable")[:NUM_PAIRS]
    rows, columns = np.unravel_index(order, counts_LL.shape)
    return [
        (row, column)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if counts_LL[row, column]
    ]


def _pairs(confusion: Confusion) -> str:
    labels, pairs = confusion.labels, most_confused(confusion)
    if not pairs:
        return "<p>No label was taken for another.</p>\n"
    totals_L = _totals(confusion)
    rows = [
        (
            text(labels[row], most=_LABEL_CHARACTERS),
            text(labels[column], most=_LABEL_CHARACTERS),
            f"{count(confusion.counts[row][column])} of {count(int(totals_L[row]))}",
        )
        for row, column in pairs
    ]
    return table(("label", "taken for", "samples"), rows, name="Labels confused most", style="last-right")


def _heat_map(confusion: Confusion) -> str:
    """A table whose cells are tinted by their share of the row; right ones, and wrong ones, by hue too."""
    names = [text(label, most=_LABEL_CHARACTERS) for label in confusion.labels]
    columns = [*names, "<em>no label</em>"] if any(confusion.unmatched) else names
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in columns)
    totals_L = _totals(confusion)
    body = ""
    for index, name in enumerate(names):
        cells = [*confusion.counts[index], *confusion.unmatched[index : index + 1]][: len(columns)]
        tinted = "".join(
            _cell(one, one / max(int(totals_L[index]), 1), is_right=column == index)
            for column, one in enumerate(cells)
        )
        body += f'<tr><th scope="row">{name}</th>{tinted}</tr>\n'
    matrix = (
        f'<table class="matrix"><thead><tr><th scope="col">label \\ answer</th>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table>"
    )
    explanation = (
        '<p class="soft">Rows: label of the sample. Columns: label of the answer. Tint: share of the row.</p>'
    )
    return scrolling(matrix, name="Confusion matrix") + explanation


def _cell(number: int, share: float, *, is_right: bool) -> str:
    style = ' class="d"' if is_right else ""
    return f'<td{style} style="--s:{100 * share:.0f}">{number}</td>' if number else f"<td{style}></td>"


def _totals(confusion: Confusion) -> np.ndarray:
    """Number of samples of each label, (L,)."""
    unmatched_L = np.array(confusion.unmatched or [0] * len(confusion.labels), dtype=np.int64)
    return np.array([sum(row) for row in confusion.counts], dtype=np.int64) + unmatched_L
