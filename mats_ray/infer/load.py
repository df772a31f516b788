"""How busy an engine is; torch-free, for those who only look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is."""

    answering: int
    waiting: int
