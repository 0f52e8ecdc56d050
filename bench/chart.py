"""Small line charts as SVG, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 300, 260  # of a panel, with its margins
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 38, 66
COLOURS = ("#1f6fb4", "#c4551a", "#3a8a4d")
TICKS = 4


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines of (x, y) by their names, and a dashed level that goes with each line. x are whole numbers, y from 0."""

    title: str
    lines: Mapping[str, Sequence[tuple[int, float]]]
    levels: Mapping[str, float]


def draw(panels: Sequence[Panel], *, across: str, unit: str, level: str) -> str:
    """The whole picture. `across` is what x counts, `unit` that of y, `level` what the dashed levels are."""
    width, height = WIDTH * len(panels), HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for place, panel in enumerate(panels):
        parts.append(f'<g transform="translate({place * WIDTH} 0)">')
        parts += _panel(panel, across, unit)
        parts.append("</g>")
    parts += _legend(panels[0].lines, level)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, across: str, unit: str) -> list[str]:
    xs = sorted({x for points in panel.lines.values() for x, _ in points})
    step = _step(max([*panel.levels.values(), *(y for points in panel.lines.values() for _, y in points)]))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        share = (x - xs[0] + 0.5) / (xs[-1] - xs[0] + 1)
        return LEFT + share * (right - LEFT), bottom - y / (TICKS * step) * (bottom - TOP)

    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{escape(panel.title)}</text>']
    parts.append(f'<text x="{LEFT}" y="31" fill="#666">{escape(unit)}</text>')
    for tick in range(TICKS + 1):
        y = at(xs[0], tick * step)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{"#ddd" if tick else "#444"}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:,.0f}</text>')
    for x in xs:
        parts.append(f'<text x="{at(x, 0)[0]:.1f}" y="{bottom + 16}" text-anchor="middle">{x}</text>')
    parts.append(f'<text x="{(LEFT + right) / 2:.1f}" y="{bottom + 31}" text-anchor="middle">{escape(across)}</text>')
    for (name, points), colour in zip(panel.lines.items(), COLOURS, strict=False):
        y = at(xs[0], panel.levels[name])[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{colour}" stroke-dasharray="5 4"/>')
        path = "L".join("{:.1f} {:.1f}".format(*at(*point)) for point in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        dot = f'r="3.5" fill="{colour}"/>'
        parts += ['<circle cx="{:.1f}" cy="{:.1f}" '.format(*at(*point)) + dot for point in points]
    return parts


def _step(most: float) -> float:
    """A round distance of the ticks that leaves no value outside."""
    unit = 1.0
    while True:
        for factor in (1, 2, 2.5, 5):
            if unit * factor * TICKS >= most:
                return unit * factor
        unit *= 10


def _legend(names: Mapping[str, object], level: str) -> list[str]:
    parts, x, y = [], LEFT, HEIGHT - 14
    for name, colour in zip(names, COLOURS, strict=False):
        parts.append(f'<path d="M{x} {y - 4}h24" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 30}" y="{y}">{escape(name)}</text>')
        x += 150
    parts.append(f'<path d="M{x} {y - 4}h24" stroke="#666" stroke-dasharray="5 4"/>')
    parts.append(f'<text x="{x + 30}" y="{y}">{escape(level)}</text>')
    return parts
