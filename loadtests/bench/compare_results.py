"""The comparison's tables, files and plot."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from loadtests.bench.compare_parts import OURS_NAME, PARTS, Part
from loadtests.bench.compare_peers import SERVERS
from loadtests.bench.compare_turns import Turn
from loadtests.bench.rows import Row, as_markdown

RESULTS = Path(__file__).parents[1] / "results"
TITLE = "mmrag against the servers that people use"
PINNED = ("infinity-emb", "litserve", "bentoml", "fastapi", "uvicorn", "ray", "hayhooks", "haystack-ai")
SHOWN = {"texts": "short texts embedded a second", "session": "the same, our model session in all of them",
         "images": "pictures embedded a second", "answers": "whole answers a second"}  # fmt: skip
WIDTH, NAME_WIDTH, BAR_HEIGHT, GAP, HEAD = 720, 130, 16, 6, 34
STYLE = """text{font:13px system-ui,sans-serif;fill:#24292f}.head{font-weight:600}.bar{fill:#b8c0cc}
.ours{fill:#2f6fde}.bare{fill:none;stroke:#8b95a3;stroke-dasharray:4 3}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#4b5563}.ours{fill:#5b9bff}.bare{stroke:#9aa4b2}}"""


def as_text(parts: dict[str, Part], failed: dict[str, str], machine: dict[str, Any], settings: dict[str, Any]) -> str:
    """Everything as Markdown: the musts, everybody's figures, who is missing; `failed`: parts without figures."""
    rows = [row for part in parts.values() for row in part.rows]
    lines = [as_markdown(TITLE, rows, machine, settings | {"peers' versions": versions()})]
    for name, part in parts.items():
        missing = [f"- {one} is not compared: {why}" for one, why in part.missing.items()]
        lines += [f"## {name}", "", *_turns_table(part.turns), "", *missing, *(f"- {note}" for note in part.notes), ""]
    lines += [f"## {name}\n\ncould not be measured: {why}\n" for name, why in failed.items()]
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Of the peers, as they are pinned."""
    pins = {}
    for path in sorted((SERVERS / "requirements").glob("*.txt")):
        pins |= dict(line.split("==", 1) for line in path.read_text().splitlines() if "==" in line)
    return {name: pins[name] for name in PINNED if name in pins}


def store(
    parts: dict[str, Part], machine: dict[str, Any], settings: dict[str, Any], folder: Path = RESULTS
) -> None:  # fmt: skip
    """Write compare.json, compare.md and compare.svg; parts that were not measured now stay as they were."""
    path = folder / "compare.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    where = {"machine": machine, "settings": settings}
    known |= {name: asdict(part) | where for name, part in parts.items()}
    known = {name: known[name] for name in PARTS if name in known}
    folder.mkdir(exist_ok=True)
    path.write_text(json.dumps(known, indent=1) + "\n")
    read = {name: read_part(stored) for name, stored in known.items()}
    (folder / "compare.md").write_text(as_text(read, {}, _machines(known), settings))
    (folder / "compare.svg").write_text(plot({name: part.turns for name, part in read.items()}))


def read_part(stored: dict[str, Any]) -> Part:
    turns = {name: Turn(**turn) for name, turn in stored["turns"].items()}
    machine = stored["machine"]
    changes = " with changes" if machine.get("is_modified") else ""
    measured = f"measured at {machine['commit']}{changes}, {machine.get('date', '')}"
    return Part([Row(**row) for row in stored["rows"]], turns, [*stored["notes"], measured], stored["missing"])


def plot(parts: dict[str, dict[str, Turn]]) -> str:
    """Bars of requests a second, everybody's, in a panel for each kind of request: one SVG, for light and dark."""
    drawn, y = [], 8
    for part, title in SHOWN.items():
        if part in parts:
            panel, y = _panel(title, parts[part], y)
            drawn.append(panel)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="{TITLE}">'
    return f"{head}<style>{STYLE}</style>{''.join(drawn)}</svg>\n"


def _panel(title: str, turns: dict[str, Turn], y: int) -> tuple[str, int]:
    most = max((turn.per_s for turn in turns.values()), default=0.0) or 1.0
    parts = [f'<text class="head" x="{NAME_WIDTH}" y="{y + 14}">{escape(title)}</text>']
    y += HEAD - 10
    for name, turn in sorted(turns.items(), key=lambda one: -one[1].per_s):
        width = (WIDTH - NAME_WIDTH - 60) * turn.per_s / most
        look = "ours" if name == OURS_NAME else "bare" if name.startswith("bare") else "bar"
        parts.append(f'<text x="{NAME_WIDTH - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        box = f'x="{NAME_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}"'
        parts.append(f'<rect class="{look}" {box} rx="2"/>')
        parts.append(f'<text x="{NAME_WIDTH + width + 6:.1f}" y="{y + 13}">{_figure(turn.per_s)}</text>')
        y += BAR_HEIGHT + GAP
    return "".join(parts), y + 12


def _turns_table(turns: dict[str, Turn]) -> Sequence[str]:
    lines = ["| | requests/s | p50 ms | p99 ms | longest ms | processor ms/request | busy cores | client's cores |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, turn in turns.items():
        figures = turn.per_s, turn.p50_ms, turn.p99_ms, turn.max_ms, turn.cpu_ms, turn.busy_cores, turn.client_cores
        lines.append(f"| {name} | {' | '.join(_figure(figure) if figure else '' for figure in figures)} |")
    return lines


def _machines(known: dict[str, Any]) -> dict[str, Any]:
    """The machine of the last part, with all commits that parts were measured at."""
    machines = [stored["machine"] for stored in known.values()]
    return machines[-1] | {"commit": ", ".join(dict.fromkeys(machine["commit"] for machine in machines))}


def _figure(value: float) -> str:
    return f"{value:,.3g}" if value < 1_000 else f"{value:,.0f}"
