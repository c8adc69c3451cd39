"""Line and area charts as inline SVG: no script, no font and no file from elsewhere; colours come from the page."""

import math
from dataclasses import dataclass, field, replace
from html import escape
from itertools import pairwise
from typing import Literal

WIDTH, WIDE, HEIGHT = 620, 1240, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 42
STEPS_APART = 2.5
LOG_ABOVE = 40
"""Values are shown on a logarithmic axis where the largest is this many times the smallest."""


@dataclass
class Series:
    """Points of one colour; y None: nothing there. `bases`: for an area, where it stands on."""

    name: str
    colour: str
    points: list[tuple[float, float | None]]
    style: Literal["line", "dots", "dashed", "area", "steps"] = "line"
    bases: list[float] = field(default_factory=list)
    unit: str = ""


@dataclass(frozen=True)
class Axis:
    """Maps values to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    least_step: float = 0.0

    def at(self, value: float) -> float:
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        place = math.log(max(value, self.low)) if self.is_log else value
        return round(self.start + (self.end - self.start) * (place - low) / (high - low), 1)

    def ticks(self) -> list[float]:
        if not self.is_log:
            step = nice_step((self.high - self.low) / (5 if abs(self.end - self.start) < WIDTH else 10))
            step = max(step, self.least_step)
            return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        multiples = (1, 2, 5) if self.high / self.low < 200 else (1,)
        ticks = [multiple * 10.0**decade for decade in decades for multiple in multiples]
        return [tick for tick in ticks if self.low <= tick <= self.high]


def nice_step(rough: float) -> float:
    """The next of 1, 2, 5, 10, ... upwards."""
    magnitude = 10.0 ** math.floor(math.log10(rough))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))


def chart(series: list[Series], x_label: str, y_label: str, may_be_log: bool = False, is_wide: bool = False) -> str:
    """The whole SVG; hovering shows the values at each x."""
    width = WIDE if is_wide else WIDTH
    xs = sorted({x for one in series for x, _ in one.points})
    ys = [y for one in series for _, y in one.points if y is not None]
    x_axis = Axis(min(0.0, *xs), max(xs), LEFT, width - RIGHT)
    counts = any(one.style == "steps" for one in series)
    y_axis = _y_axis(ys, may_be_log, least_step=1.0 if counts else 0.0)
    parts = [_grid(x_axis, y_axis, x_label, y_label)]
    for i, one in enumerate(series):
        parts.append(_draw(one, x_axis, _shifted(y_axis, i) if one.style == "steps" else y_axis))
    parts += _hover(series, xs, x_axis, x_label)
    label = f"{y_label} over {x_label}: {', '.join(one.name for one in series)}"
    return f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def legend(series: list[Series]) -> str:
    """Names with their colours."""
    marks = (f'<i class="{one.style}" style="--c:var(--{one.colour})"></i>{escape(one.name)}' for one in series)
    return f'<ul class="legend"><li>{"</li><li>".join(marks)}</li></ul>'


def stacked(series: list[Series]) -> list[Series]:
    """The same as areas on top of each other; they share their xs."""
    bases = [0.0] * len(series[0].points)
    areas = []
    for one in series:
        tops = [base + (y or 0.0) for base, (_, y) in zip(bases, one.points, strict=True)]
        points = [(x, top) for (x, _), top in zip(one.points, tops, strict=True)]
        areas.append(Series(one.name, one.colour, points, "area", bases, one.unit))
        bases = tops
    return areas


def number(value: float) -> str:
    """A figure short enough for an axis."""
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _y_axis(ys: list[float], may_be_log: bool, least_step: float = 0.0) -> Axis:
    high = max(ys, default=1.0) or 1.0
    positive = [y for y in ys if y > 0]
    if may_be_log and positive and high / min(positive) > LOG_ABOVE:
        return Axis(min(positive) / 1.3, high * 1.2, HEIGHT - BOTTOM, TOP, is_log=True)
    step = max(nice_step(high * 1.05 / 5), least_step)
    return Axis(0.0, step * math.ceil(high * 1.02 / step), HEIGHT - BOTTOM, TOP, least_step=least_step)


def _grid(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str) -> str:
    parts = []
    for tick in y_axis.ticks():
        y = y_axis.at(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{x_axis.end}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{number(tick)}</text>')
    for tick in x_axis.ticks():
        x = x_axis.at(tick)
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{number(tick)}</text>')
    middle = (LEFT + x_axis.end) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle" class="label">{escape(x_label)}</text>')
    place = f'transform="translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
    parts.append(f'<text {place} text-anchor="middle" class="label">{escape(y_label)}</text>')
    return "".join(parts)


def _draw(one: Series, x_axis: Axis, y_axis: Axis) -> str:
    runs = _runs([(x_axis.at(x), None if y is None else y_axis.at(y)) for x, y in one.points])
    colour = f'style="--c:var(--{one.colour})"'
    if one.style == "area":
        top = [(x_axis.at(x), y_axis.at(y or 0.0)) for x, y in one.points]
        bottom = [(x_axis.at(x), y_axis.at(base)) for (x, _), base in zip(one.points, one.bases, strict=True)]
        return f'<path class="area" {colour} d="{_path([*top, *reversed(bottom)])}Z"/>'
    parts = []
    if one.style != "dots":
        joined = [_stairs(run) if one.style == "steps" else run for run in runs]
        parts = [f'<path class="{one.style}" {colour} d="{_path(run)}"/>' for run in joined]
    alone = [run for run in runs if one.style == "dots" or len(run) == 1]
    is_sparse = len(one.points) <= 12 and one.style == "line"
    dots = [point for run in (runs if is_sparse else alone) for point in run]
    return "".join([*parts, *(f'<circle {colour} cx="{x}" cy="{y}" r="3"/>' for x, y in dots)])


def _shifted(axis: Axis, num: int) -> Axis:
    """The same a little higher: whole numbers are often equal, and lines would cover each other."""
    return replace(axis, start=axis.start - STEPS_APART * num, end=axis.end - STEPS_APART * num)


def _runs(points: list[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The points between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is not None:
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _stairs(run: list[tuple[float, float]]) -> list[tuple[float, float]]:
    corners = [(x, y) for (_, y), (x, _) in pairwise(run)]
    return [run[0], *(point for pair in zip(corners, run[1:], strict=True) for point in pair)]


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _hover(series: list[Series], xs: list[float], x_axis: Axis, x_label: str) -> list[str]:
    values = [{x: _value(one, i) for i, (x, _) in enumerate(one.points)} for one in series]
    places = [x_axis.at(x) for x in xs]
    edges = [LEFT, *((a + b) / 2 for a, b in pairwise(places)), x_axis.end]
    parts = []
    for i, x in enumerate(xs):
        lines = [f"{number(x)} {x_label}"]
        shown = ((one, value.get(x)) for one, value in zip(series, values, strict=True))
        lines += [f"{one.name}: {y:,.4g} {one.unit}".strip() for one, y in shown if y is not None]
        box = f'x="{edges[i]:.1f}" width="{max(edges[i + 1] - edges[i], 0):.1f}"'
        title = f"<title>{escape(chr(10).join(lines))}</title>"
        parts.append(f'<rect class="hover" {box} y="{TOP}" height="{HEIGHT - TOP - BOTTOM}">{title}</rect>')
    return parts


def _value(one: Series, i: int) -> float | None:
    y = one.points[i][1]
    return y if y is None or not one.bases else y - one.bases[i]
