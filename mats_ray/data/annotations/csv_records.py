"""CSV and TSV files, record by record, where one broken record costs one record.

Python's reader treats an unclosed quote as a field that extends to the end of the file. Here a record is a
line, joined with the next ones while its quotes are odd; where that fails, the first line alone is rejected
and reading continues at the second.

No record is kept in part: where the last column is needed, a line without a delimiter is the rest of a text
that was written without quotes, and another line with too few columns may be, unless it starts as records do
(an id): the record before it is rejected, too.
"""

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mats_ray.data.annotations.cell_values import MISSING
from mats_ray.data.annotations.reader import AnnotationFile, Rejected
from mats_ray.errors import DataError, abbreviated

MAX_RECORD_LINES = 32
"""Largest number of lines of one record; captions with line breaks have a few."""
MAX_TEXT_CHARACTERS = 20_000
"""A longer text is not put together any further: it is no caption."""
CONTINUES_ON_NEXT_LINE = "continues in the next line, which has too few columns"
"""Why a record is rejected that may be half of one."""

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
    """Yield (line number, column -> cell) of each record; cells are stripped, missing ones are empty.

    Args:
        file: What to read.
        needed: Columns a header must have.
        names: Columns of a file without header; a record may lack the last ones (they are empty then).
        delimiter: Between cells.
        quoted: Cells may stand in double quotes; otherwise a quote is a character like others.
        space_after_comma: Quotes may follow a space (AudioSet).
        comment: Lines that start with it are skipped.
        encoding: Encoding of records that are not UTF-8; "utf-8" rejects them.

    Raises:
        DataError: The header lacks a column: no record of the file could be read.
    """
    dialect = {"delimiter": delimiter, "skipinitialspace": space_after_comma} if quoted else None
    lines, form = _Lines(file.lines(), comment), _Form(delimiter, dialect, encoding, bool(names))
    columns = list(names) or _header(lines, form, needed, file)
    yield from _records(lines, form, columns, continues=not names and bool(set(columns[-1:]) & set(needed)))


@dataclass(frozen=True, slots=True)
class _Form:
    delimiter: str
    dialect: dict[str, object] | None
    """Arguments of ``csv.reader``; ``None``: nothing is quoted."""
    encoding: str
    may_be_short: bool


def _records(
    lines: "_Lines", form: _Form, columns: list[str], *, continues: bool
) -> Iterator[Record | Rejected]:
    """Yield records; ``continues``: the last column is needed, and its text may continue in the next line."""
    whole: tuple[int, list[str]] | None = None  # a record that is complete unless the next line continues it
    while (line := lines.next()) is not None:
        number, cells = lines.number, _cells(line, lines, form)
        fault = _fault(cells, columns, may_be_short=form.may_be_short)
        if cells is not None and fault:
            lines.rewind(number)
        may_be_rest = (
            fault
            and continues
            and line.count(form.delimiter) < len(columns) - 1
            and not (whole and cells and _same_kind(whole[1][0], cells[0]))
        )
        if whole and may_be_rest and _append_rest(whole[1], cells):
            continue
        if whole:
            yield (
                Rejected(whole[0], CONTINUES_ON_NEXT_LINE)
                if may_be_rest
                else _record(*whole, columns, form.encoding)
            )
        whole = None if cells is None or fault else (number, cells)
        if fault:
            yield Rejected(number, fault)
    if whole:
        yield _record(*whole, columns, form.encoding)


def _fault(cells: list[str] | None, columns: list[str], *, may_be_short: bool) -> str | None:
    if cells is None:
        return "broken quoting"
    if len(cells) == len(columns) or (may_be_short and len(cells) < len(columns)):
        return None
    return f"{len(cells)} columns instead of {len(columns)}"


def _same_kind(first: str, second: str) -> bool:
    """Whether both cells are numbers or names with one extension: then a short line is a record cut off."""
    if first.strip().isdecimal() and second.strip().isdecimal():
        return True
    extension = PurePosixPath(first.strip()).suffix
    return bool(extension) and PurePosixPath(second.strip()).suffix == extension


def _append_rest(record: list[str], rest: list[str] | None) -> bool:
    """Append the rest of a text that a line break split, where it certainly is that; return whether it is."""
    if rest is None or len(rest) != 1 or len(record[-1]) > MAX_TEXT_CHARACTERS:
        return False
    record[-1] += f" {rest[0]}"
    return True


def _record(number: int, cells: list[str], columns: list[str], encoding: str) -> Record | Rejected:
    decoded = _decoded(cells, encoding)
    if decoded is None:
        return Rejected(number, "not UTF-8")
    values = ["" if cell in MISSING else cell for cell in decoded]
    return number, dict(zip(columns, values + [""] * (len(columns) - len(values)), strict=True))


def _header(lines: "_Lines", form: _Form, needed: Sequence[str], file: AnnotationFile) -> list[str]:
    cells: list[str] | None = None
    while cells is None and (line := lines.next()) is not None:
        cells = _cells(line, lines, form)
    columns = [cell.strip() for cell in cells or ()]
    if missing := [name for name in needed if name not in columns]:
        raise DataError(
            f"{file.path} has no column {', '.join(missing)}; its header is {abbreviated(columns, most=20)}"
        )
    return columns


def _cells(line: str, lines: "_Lines", form: _Form) -> list[str] | None:
    """Parse a record; ``None``: its quotes make no sense, and only its first line is used up."""
    if form.dialect is None:
        return line.split(form.delimiter)
    number, record = lines.number, line
    for _ in range(MAX_RECORD_LINES):
        if record.count('"') % 2 == 0:
            break
        more = lines.next()
        if more is None:
            break
        record += "\n" + more
    try:
        return next(csv.reader([record], strict=True, **form.dialect))  # pyright: ignore[reportArgumentType]
    except (csv.Error, StopIteration):
        lines.rewind(number)
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

    def rewind(self, number: int) -> None:
        """Put back the lines after a given one."""
        while self._seen and self._seen[-1][0] > number:
            self._again.appendleft(self._seen.pop())
        self.number = number
