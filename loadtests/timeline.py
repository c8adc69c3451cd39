"""How long each stage of a request takes, drawn one after the other as they run."""

from html import escape

from loadtests.charts import number

WIDTH, LEFT, RIGHT = 620, 100, 74
HEIGHT, ROW, LANE, GAP = 236, 46, 15, 2
COLOURS = {"text_encoder": "c4", "image_encoder": "c5", "retriever": "c2", "decode": "c1", "outside": "c8"}
SIDE_BY_SIDE = "_encoder"


def timeline(stages: dict[str, dict[str, float]]) -> str:
    """`stages`: kind -> stage -> mean ms, with "total" as the service and "latency" as the caller counts."""
    longest_ms = max(row["latency"] for row in stages.values()) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / longest_ms
    height = max(ROW, HEIGHT // max(len(stages), 3))
    above = (height - 2 * LANE - GAP) // 2
    rows = [_row(kind, row, height * i + above, scale) for i, (kind, row) in enumerate(stages.items())]
    names = list(dict.fromkeys(name for row in stages.values() for name, _, _, _ in _bars(row)))
    marks = (f'<i class="area" style="--c:var(--{_colour(name)})"></i>{_readable(name)}' for name in names)
    key = f'<ul class="legend"><li>{"</li><li>".join(marks)}</li></ul>'
    label = "mean time of each stage by kind of request"
    return f'{key}<svg viewBox="0 0 {WIDTH} {height * len(rows)}" role="img" aria-label="{label}">{"".join(rows)}</svg>'


def _bars(row: dict[str, float]) -> list[tuple[str, float, float, int]]:
    """(stage, start, length, lane): the encoders start together, the rest follows one upon the other."""
    beside = [name for name in row if name.endswith(SIDE_BY_SIDE)]
    bars = [(name, 0.0, row[name], lane) for lane, name in enumerate(beside)]
    at_ms = max((row[name] for name in beside), default=0.0)
    for name in row:
        if name not in (*beside, "total", "latency"):
            bars.append((name, at_ms, row[name], 0))
            at_ms += row[name]
    return [*bars, ("outside", at_ms, max(row["latency"] - at_ms, 0.0), 0)]


def _row(kind: str, row: dict[str, float], top: int, scale: float) -> str:
    parts = [f'<text x="{LEFT - 10}" y="{top + 20}" text-anchor="end" class="kind">{_readable(kind)}</text>']
    bars = _bars(row)
    has_two_lanes = any(lane for *_, lane in bars)
    for name, start_ms, length_ms, lane in bars:
        is_half = has_two_lanes and name.endswith(SIDE_BY_SIDE)
        tall = LANE if is_half else 2 * LANE + GAP
        x, width = LEFT + scale * start_ms, max(scale * length_ms, 0.5)
        title = f"<title>{escape(kind)}, {_readable(name)}: {length_ms:,.1f} ms</title>"
        box = f'x="{x:.1f}" y="{top + lane * (LANE + GAP)}" width="{width:.1f}" height="{tall}" rx="2"'
        parts.append(f'<rect class="bar" style="--c:var(--{_colour(name)})" {box}>{title}</rect>')
    end = LEFT + scale * row["latency"] + 7
    parts.append(f'<text x="{end:.1f}" y="{top + 20}" class="kind">{number(row["latency"])} ms</text>')
    return "".join(parts)


def _colour(name: str) -> str:
    return COLOURS.get(name, "c6")


def _readable(name: str) -> str:
    return escape(name.replace("_", " "))
