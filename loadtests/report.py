"""The report of a recorded run: report.html for people, report.json for machines.

`python -m loadtests.report DIRECTORY` writes both anew and exits with 1 where an objective is missed.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests import figures
from loadtests.musts import Verdict, in_words, verdicts
from loadtests.page import page
from loadtests.recording import Recorded, read
from loadtests.scenarios import scenario_of


def figures_of(recorded: Recorded) -> dict[str, Any]:
    """Everything that was measured, ready for JSON."""
    scenario = scenario_of(recorded.run["scenario"])
    return {
        "total": figures.totals(recorded.calls, scenario, figures.span_s(recorded, scenario)),
        "late_ms": figures.percentiles(call["late_ms"] for call in recorded.calls),
        "statuses": figures.statuses(recorded.calls),
        "problems": figures.problems(recorded.calls),
        "kinds": figures.by_kind(recorded, scenario),
        "loads": figures.by_load(recorded, scenario),
        "stages": figures.stages(recorded, scenario),
        "windows": figures.over_time(recorded, scenario),
    }


def write_report(directory: Path) -> list[Verdict]:
    """Write report.json and report.html beside a recording; returns what became of the objectives."""
    recorded = read(directory)
    scenario = scenario_of(recorded.run["scenario"])
    found = figures_of(recorded)
    judged = verdicts(scenario, found)
    musts = [asdict(verdict) | {"is_met": verdict.is_met} for verdict in judged]
    whole = recorded.run | {"musts": musts, "figures": found, "components": recorded.components}
    (directory / "report.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / "report.html").write_text(page(recorded, scenario, found, judged), encoding="utf-8")
    return judged


def print_verdicts(judged: list[Verdict]) -> None:
    """A line for each objective."""
    for verdict in judged:
        must, measured = in_words(verdict)
        print(f"  {'✓' if verdict.is_met else '✗'} {verdict.what}: {measured} (must be {must})")


def main() -> int:
    """Write the reports of the directories that are named."""
    judged = [verdict for directory in sys.argv[1:] for verdict in write_report(Path(directory))]
    print_verdicts(judged)
    return 0 if all(verdict.is_met for verdict in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
