"""The report of a preparation, source by source: written, dropped and why, rejected."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mats_ray.errors import DataError

CHECK_AFTER = 10_000
"""Number of records before which too many rejected ones do not end a job: only its start may be bad."""


@dataclass(slots=True)
class Counts:
    """Counts of records of one source, or of some records of one file."""

    written: int = 0
    by_split: Counter[str] = field(default_factory=Counter[str])
    """Number of records of each split that is kept."""
    dropped: Counter[str] = field(default_factory=Counter[str])
    """Number of dropped records by reason."""
    rejected: int = 0
    first_rejected: str = ""
    num_bytes: int = 0
    """Number of bytes read so far."""

    @property
    def records(self) -> int:
        """Everything that was read: kept, dropped, rejected."""
        return self.by_split.total() + self.dropped.total() + self.rejected

    def add(self, other: "Counts") -> None:
        """Add the counts of another."""
        self.written += other.written
        self.by_split += other.by_split
        self.dropped += other.dropped
        self.rejected += other.rejected
        self.first_rejected = self.first_rejected or other.first_rejected
        self.num_bytes += other.num_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "records": self.records,
            "written": self.written,
            "by_split": dict(self.by_split),
            "dropped": dict(self.dropped),
            "rejected": self.rejected,
            "first_rejected": self.first_rejected,
            "num_bytes": self.num_bytes,
        }

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Counts":
        """Read ``to_dict`` back."""
        return cls(
            written=tree["written"],
            by_split=Counter(tree["by_split"]),
            dropped=Counter(tree["dropped"]),
            rejected=tree["rejected"],
            first_rejected=tree["first_rejected"],
            num_bytes=tree["num_bytes"],
        )


@dataclass(slots=True)
class PrepareReport:
    """Counts of a whole preparation."""

    path: str
    """Output folder of the triplets."""
    written_files: bool
    """False for a dry run."""
    sources: dict[str, Counts] = field(default_factory=dict[str, Counts])
    examples: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """The first triplet of each source."""
    seconds: float = 0.0

    @property
    def total(self) -> Counts:
        """Counts of all sources together."""
        total = Counts()
        for counts in self.sources.values():
            total.add(counts)
        return total

    def check(self, max_rejected_fraction: float, *, final: bool) -> None:
        """End a job that rejects too much.

        Raises:
            DataError: Names both numbers, and the first rejected record.
        """
        total = self.total
        if not final and total.records < CHECK_AFTER:
            return
        if total.rejected > max_rejected_fraction * total.records:
            raise DataError(
                f"{total.rejected} of {total.records} records cannot be used, more than "
                f"data.prepare.max_rejected_fraction={max_rejected_fraction:g} lets pass; the first: "
                f"{total.first_rejected}; all of them: {self.path}/rejected"
            )

    def summary(self) -> str:
        """Return the report on one line."""
        total, verb = self.total, "written to" if self.written_files else "would be written to"
        return (
            f"{total.written} triplets of {total.records} records {verb} {self.path}; "
            f"{total.dropped.total()} dropped, {total.rejected} rejected, {self.seconds:.1f} s"
        )

    def table(self) -> str:
        """Return every source with its counts, a line per reason."""
        lines = [f"{'source':<20}{'records':>10}{'triplets':>10}{'dropped':>10}{'rejected':>10}"]
        for name, counts in [*self.sources.items(), ("all", self.total)]:
            dropped = counts.dropped.total()
            lines.append(
                f"{name:<20}{counts.records:>10}{counts.written:>10}{dropped:>10}{counts.rejected:>10}"
            )
            if name != "all":
                lines += [f"  kept, {split}: {count}" for split, count in sorted(counts.by_split.items())]
                lines += [f"  dropped, {why}: {count}" for why, count in counts.dropped.most_common()]
                lines += [f"  first rejected: {counts.first_rejected}"] if counts.rejected else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``report.json``."""
        return {
            "sources": {name: counts.to_dict() for name, counts in self.sources.items()},
            "total": self.total.to_dict(),
            "seconds": self.seconds,
        }
