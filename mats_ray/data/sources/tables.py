"""CSV and TSV files, record by record, where one broken record costs one record.

Python's reader takes an unclosed quote for a field that goes on to the end of the file. Here a record is a
line, joined with the next ones while its quotes are odd; where that leads to nothing, the first line alone is
rejected and reading goes on at the second.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence

from mats_ray.data.sources.rows import AnnotationFile, Rejected
from mats_ray.errors import DataError

MAX_RECORD_LINES = 32
"""Captions with line breaks have a few."""

Record = tuple[int, dict[str, str]]


def table_records(
    file: AnnotationFile,
    *,
    needed: Sequence[str] = (),
    names: Sequence[str] = (),
    delimiter: str = ",",
    quoted: bool = True,
    space_after_comma: bool = False,
    comment: str | None = None,
    encoding: str = "utf-8",
) -> Iterator[Record | Rejected]:
    """Yield (line number, column -> cell) of each record, cells stripped.

    Args:
        file: What to read.
        needed: Columns a header must have.
        names: Columns of a file without header; a record may lack the last ones (they are empty then).
        delimiter: Between cells.
        quoted: Cells may stand in double quotes; otherwise a quote is a character like others.
        space_after_comma: Quotes may follow a space (AudioSet).
        comment: Lines that begin so are skipped.
        encoding: Of records that are not UTF-8; "utf-8" rejects them.

    Raises:
        DataError: The header lacks a column: no record of the file could be read.
    """
    columns = list(names)
    lines = _Lines(file.lines(), comment)
    dialect = {"delimiter": delimiter, "skipinitialspace": space_after_comma}
    while (line := lines.next()) is not None:
        number = lines.number
        cells = _cells(line, lines, dialect) if quoted else line.split(delimiter)
        if cells is not None and not columns:
            columns = _header(cells, needed, file)
            continue
        if cells is not None and not _fits(cells, columns, may_be_short=bool(names)):
            lines.back(number)
        yield _record(number, cells, columns, encoding, may_be_short=bool(names))


def _fits(cells: list[str], columns: list[str], *, may_be_short: bool) -> bool:
    return len(cells) == len(columns) or (may_be_short and len(cells) < len(columns))


def _record(
    number: int, cells: list[str] | None, columns: list[str], encoding: str, *, may_be_short: bool
) -> Record | Rejected:
    if cells is None:
        return Rejected(number, "broken quoting")
    if not _fits(cells, columns, may_be_short=may_be_short):
        return Rejected(number, f"{len(cells)} columns instead of {len(columns)}")
    decoded = _decoded(cells, encoding)
    if decoded is None:
        return Rejected(number, "not UTF-8")
    return number, dict(zip(columns, decoded + [""] * (len(columns) - len(decoded)), strict=True))


def _header(cells: list[str], needed: Sequence[str], file: AnnotationFile) -> list[str]:
    columns = [cell.strip() for cell in cells]
    if missing := [name for name in needed if name not in columns]:
        raise DataError(f"{file.path} has no column {', '.join(missing)}; its header is {', '.join(columns)}")
    return columns


def _cells(line: str, lines: "_Lines", dialect: dict[str, object]) -> list[str] | None:
    """Parse a record; ``None``: its quotes make no sense, and only its first line is used up."""
    number, record = lines.number, line
    for _ in range(MAX_RECORD_LINES):
        if record.count('"') % 2 == 0:
            break
        more = lines.next()
        if more is None:
            break
        record += "\n" + more
    try:
        return next(csv.reader([record], strict=True, **dialect))  # pyright: ignore[reportArgumentType]
    except (csv.Error, StopIteration):
        lines.back(number)
        return None


def _decoded(cells: list[str], encoding: str) -> list[str] | None:
    if all(cell.isascii() for cell in cells):
        return [cell.strip() for cell in cells]
    raw = [cell.encode("utf-8", "surrogateescape") for cell in cells]
    for one in dict.fromkeys(("utf-8", encoding)):
        try:
            return [cell.decode(one).strip() for cell in raw]
        except UnicodeDecodeError:
            continue
    return None


class _Lines:
    """Lines that are not empty, with their numbers; the last few can be put back."""

    def __init__(self, lines: Iterator[str], comment: str | None) -> None:
        self._lines, self._comment = enumerate(lines, start=1), comment
        self._seen: deque[tuple[int, str]] = deque(maxlen=MAX_RECORD_LINES + 2)
        self._again: deque[tuple[int, str]] = deque()
        self.number = 0

    def next(self) -> str | None:
        """Return the next line, ``None`` at the end."""
        while True:
            found = self._again.popleft() if self._again else next(self._lines, None)
            if found is None:
                return None
            self._seen.append(found)
            self.number, line = found
            if line and not (self._comment and line.startswith(self._comment)):
                return line

    def back(self, number: int) -> None:
        """Go back to just after a line."""
        while self._seen and self._seen[-1][0] > number:
            self._again.appendleft(self._seen.pop())
        self.number = number
