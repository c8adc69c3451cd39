"""A row of a benchmark's table: ours, theirs, and what the ratio must be."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """`theirs`: the other side's figure; None where ours is compared with `must` itself.

    `must`: for the ratio of ours to theirs, or for ours; None: reported only.
    """

    name: str
    ours: float
    theirs: float | None = None
    unit: str = ""
    must: float | None = None
    is_at_most: bool = False

    @property
    def compared(self) -> float:
        return self.ours if self.theirs is None else self.ours / self.theirs

    @property
    def is_met(self) -> bool:
        if self.must is None:
            return True
        return self.compared <= self.must if self.is_at_most else self.compared >= self.must


def as_markdown(title: str, rows: Sequence[Row], machine: dict[str, Any], settings: dict[str, Any]) -> str:
    """The table, with what it was measured on."""
    lines = [f"# {title}", "", f"`{json.dumps(machine)}`", "", f"`{json.dumps(settings)}`", ""]
    lines += ["| row | ours | theirs | ratio | must | |", "|---|---|---|---|---|---|"]
    for row in rows:
        theirs = "" if row.theirs is None else f"{row.theirs:,.4g} {row.unit}"
        ratio = "" if row.theirs is None else f"{row.compared:.2f}"
        must = "" if row.must is None else f"{'≤' if row.is_at_most else '≥'} {row.must:g}"
        mark = "" if row.must is None else ("✓" if row.is_met else "✗ missed")
        lines.append(f"| {row.name} | {row.ours:,.4g} {row.unit} | {theirs} | {ratio} | {must} | {mark} |")
    return "\n".join([*lines, ""])
