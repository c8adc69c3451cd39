"""The report as one HTML page that needs nothing else."""

import time
from html import escape
from pathlib import Path
from typing import Any

from loadtests import plots
from loadtests.musts import Verdict, in_words
from loadtests.recording import Recorded
from loadtests.scenarios import WARM_UP_REQUESTS, Scenario

STYLE = Path(__file__).parent / "report.css"
BUSY_LOAD = 0.5
LATE_MS = 20.0


def page(recorded: Recorded, scenario: Scenario, found: dict[str, Any], judged: list[Verdict]) -> str:
    """The whole document."""
    figures = [plot for plot in plots.all_of(recorded, scenario, found) if plot]
    body = [
        _head(recorded, scenario, judged),
        _tiles(found["total"]),
        _objectives(judged),
        f'<section class="plots">{"".join(_figure(plot) for plot in figures)}</section>',
        _kinds(found["kinds"]),
        _problems(found["problems"]),
        _how(recorded, scenario, found),
    ]
    title = f"mmrag under load: {escape(scenario.name)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE.read_text(encoding='utf-8')}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _head(recorded: Recorded, scenario: Scenario, judged: list[Verdict]) -> str:
    num_missed = sum(not verdict.is_met for verdict in judged)
    badge = f'<b class="badge bad">{num_missed} of {len(judged)} objectives missed</b>'
    if not num_missed:
        badge = f'<b class="badge">{"all objectives met" if judged else "nothing demanded"}</b>'
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(recorded.started_s))
    machine = recorded.run["machine"]
    where = f"{machine['cores']} cores, {machine['processor']}, {', '.join(machine['gpus']) or 'no GPU'}"
    commit = f"commit {machine['commit']}{' with changes' if machine['is_modified'] else ''}"
    return (
        f"<header><p class=kicker>mmrag under load</p><h1>{escape(scenario.name)} {badge}</h1>"
        f"<p class=about>{escape(scenario.about)}. {_load_in_words(scenario)}</p>"
        f"<p class=where>{when} · {escape(where)} · {escape(commit)}</p></header>"
    )


def _load_in_words(scenario: Scenario) -> str:
    how = "come at their own times" if scenario.loop == "open" else "are asked again when they are answered"
    repeats = f"; some repeat, Zipf {scenario.zipf:g}" if scenario.zipf is not None else "; none comes twice"
    peak = f"{scenario.peak:,.4g} {scenario.unit}"
    return f"Shape: {scenario.shape}, up to {peak} for {scenario.duration_s:,.0f} s. Requests {how}{repeats}."


def _tiles(total: dict[str, Any]) -> str:
    tiles = [
        (f"{total['good_per_s']:,.1f}", "good answers a second"),
        (_ms(total["p50"]), "median latency"),
        (_ms(total["p95"]), "p95"),
        (_ms(total["p99"]), "p99"),
    ]
    if total["first_p50"] is not None:
        tiles.append((_ms(total["first_p95"]), "p95 to the first token"))
    tiles += [(f"{round(100 * total[f'{name}_share'], 2):g} %", name) for name in ("refused", "failed")]
    if total["degraded"]:
        tiles.append((f"{total['degraded']:,}", "answers without some component"))
    items = "".join(f"<li><b>{value}</b><span>{name}</span></li>" for value, name in tiles)
    return f"<ul class=tiles>{items}</ul>"


def _objectives(judged: list[Verdict]) -> str:
    if not judged:
        return ""
    rows = []
    for verdict in judged:
        must, measured = in_words(verdict)
        mark = "<td class=good>✓ met</td>" if verdict.is_met else "<td class=bad>✗ missed</td>"
        rows.append(f"<tr><td>{escape(verdict.what)}<td class=n>{measured}<td class=n>{must}{mark}</tr>")
    head = "<tr><th>what<th class=n>measured<th class=n>must be<th></tr>"
    return f"<section><h2>Objectives</h2><table>{head}{''.join(rows)}</table></section>"


def _figure(plot: plots.Plot) -> str:
    caption = f"<figcaption>{escape(plot.caption)}</figcaption>"
    return f'<figure class="{"wide" if plot.is_wide else ""}"><h2>{escape(plot.title)}</h2>{plot.svg}{caption}</figure>'


def _kinds(kinds: dict[str, dict[str, Any]]) -> str:
    rows = []
    for kind, row in kinds.items():
        counts = "".join(f"<td class=n>{row[name]:,}" for name in ("sent", "good", "refused", "failed"))
        columns = ("p50", "p95", "p99", "first_p50", "first_p95")
        times = "".join(f"<td class=n>{_ms(row[name])}" for name in columns)
        rows.append(f"<tr><td>{escape(kind)}{counts}{times}</tr>")
    names = ["sent", "good", "refused", "failed", "p50", "p95", "p99", "first token p50", "first token p95"]
    head = f"<tr><th>kind{''.join(f'<th class=n>{name}' for name in names)}</tr>"
    return f"<section><h2>By kind of request</h2><div class=scroll><table>{head}{''.join(rows)}</table></div></section>"


def _problems(problems: dict[str, int]) -> str:
    if not problems:
        return ""
    rows = "".join(
        f"<tr><td class='n count'>{num:,}<td><code>{escape(text)}</code></tr>" for text, num in problems.items()
    )
    return f"<section><h2>What went wrong, most often</h2><table>{rows}</table></section>"


def _how(recorded: Recorded, scenario: Scenario, found: dict[str, Any]) -> str:
    machine, late = recorded.run["machine"], found["late_ms"]
    lines = [
        "Latency counts from the time a request was due to the last byte of its answer. Good: answered whole, within "
        f"{scenario.in_time_ms:,.0f} ms. Refused: 429 or 503. Failed: everything else that is no answer.",
        f"Requests: {WARM_UP_REQUESTS} of each kind before the clock started, not counted; then "
        f"{found['total']['sent']:,}, by status {_listed(found['statuses'])}.",
        f"The load generator ran on this machine and sent half of the requests within {_ms(late[50])} and 99 of 100 "
        f"within {_ms(late[99])} of their times; that is part of the latencies.",
        f"Replicas and processor time: from {recorded.run['watched']}. "
        f"The service was {'started for this run' if recorded.run['is_own_service'] else 'running before'}.",
        f"{machine['memory_gb']:g} GB of memory, {machine['system']}; {_listed(machine['versions'])}.",
    ]
    if machine["load_before"] > BUSY_LOAD * machine["cores"]:
        busy = f"The machine was busy with other things before the load began (load average {machine['load_before']})"
        lines.insert(0, f"<strong>{busy}: take no figure from this run.</strong>")
    if (late[99] or 0) > LATE_MS:
        lines.insert(0, "<strong>The load generator could not keep up: latencies are overstated.</strong>")
    return f"<section class=how><h2>How this was measured</h2>{''.join(f'<p>{line}</p>' for line in lines)}</section>"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:,.2f} s" if value >= 10_000 else f"{value:,.3g} ms" if value < 100 else f"{value:,.0f} ms"


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{escape(str(name))} {escape(str(value))}" for name, value in values.items())
