"""The summary of a batch job: on the terminal in two lines, as ``_summary.json`` in full."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

_PACKAGES = ("mats-ray", "ray", "torch", "transformers", "pyarrow")
"""Packages whose versions are in the summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSummary:
    """Number of files and rows of a batch job's output."""

    files: int
    rows: int
    """Files times prompts, or windows of files times prompts."""
    ok: int
    errors: dict[str, int]
    """Error rows by code, most frequent first."""
    written: int
    """Rows of this run; the others were there before."""
    seconds: float
    out: str
    model_id: str
    skipped: str = ""
    """Files that are no audio, counted by extension."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds at work by stage, added up over its processes."""

    @property
    def error_counts(self) -> str:
        """Number of errors by code, as text."""
        return ", ".join(f"{count} {code}" for code, count in self.errors.items()) or "none"

    def as_dict(self, examples: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Any]:
        """Return it as ``_summary.json`` has it.

        Args:
            examples: Path and text of some errors by code.
        """
        tree = {key: value for key, value in asdict(self).items() if key not in ("errors", "out")}
        errors = {
            code: {
                "count": count,
                "examples": [{"path": path, "error": text} for path, text in examples.get(code, ())],
            }
            for code, count in self.errors.items()
        }
        rate = self.written / self.seconds if self.seconds else 0.0
        return tree | {
            "rows_per_second": round(rate, 2),
            "errors": errors,
            "versions": {name: version(name) for name in _PACKAGES},
            "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }

    def has_counts_of(self, tree: Mapping[str, Any] | None) -> bool:
        """Whether a summary that is there counts the same rows: a run that did nothing keeps the last one's.

        It does not where the run that wrote the last rows was killed before its summary.

        Args:
            tree: Of ``_summary.json``.
        """
        if tree is None:
            return False
        try:
            errors = {code: error["count"] for code, error in tree["errors"].items()}
            return (self.files, self.rows, self.ok, self.errors) == (
                tree["files"], tree["rows"], tree["ok"], errors,
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError):
            return False

    def __str__(self) -> str:
        """Return it in two lines."""
        written = f"{self.written} rows written in {self.seconds:.1f} s"
        if not self.written:
            written = "nothing to do, every row was there"
        return (
            f"{self.files} files, {self.rows} rows: {self.ok} ok, errors: {self.error_counts}\n"
            f"{skipped_line(self.skipped)}{written}: {self.out} (model {self.model_id})"
        )


def skipped_line(skipped: str) -> str:
    """Return the line about files that are no audio; empty where there are none."""
    return f"left out, no audio: {skipped}\n" if skipped else ""
