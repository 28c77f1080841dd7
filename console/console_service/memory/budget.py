"""How the memory of the console is divided."""

from dataclasses import dataclass
from typing import Self

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """The bytes of each signal. A flood of one signal never drives out another."""

    requests: int
    logs: int
    spans: int
    figures: int

    @classmethod
    def of(cls, megabytes: int) -> Self:
        """Divide this many megabytes."""
        whole = megabytes * MEGABYTE
        return cls(
            requests=whole * 25 // 100, logs=whole * 30 // 100, spans=whole * 30 // 100, figures=whole * 15 // 100
        )
