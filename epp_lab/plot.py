"""Plots as SVG: lines over load, one for each policy. No library is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, TypeAlias

Points: TypeAlias = Sequence[tuple[float, float]]

WIDTH: Final = 640
HEIGHT: Final = 400
LEFT: Final = 60
RIGHT: Final = 150
TOP: Final = 40
BOTTOM: Final = 45
TICKS: Final = 5
COLOURS: Final = (
    "#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c92a2a", "#495057",
    "#1971c2", "#d6336c", "#94d82d", "#fab005", "#868e96", "#212529",
)  # fmt: skip


def lines(title: str, x_name: str, y_name: str, series: Mapping[str, Points]) -> str:
    """An SVG document with one line for each of `series`; axes begin at 0 upwards."""
    everything = [point for points in series.values() for point in points]
    if not everything:
        raise ValueError("nothing to plot")
    lows = min(x for x, _ in everything)
    scale = _Scale(lows, max(x for x, _ in everything), max(y for _, y in everything))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *_axes(scale, x_name, y_name),
    ]
    for number, (name, points) in enumerate(series.items()):
        parts += _line(scale, name, points, number)
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """From values to places on the page."""

    def __init__(self, low: float, high: float, top: float) -> None:
        self.low, self.wide = low, (high - low) or 1.0
        self.top = top or 1.0

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / self.wide * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.top * (HEIGHT - TOP - BOTTOM)


def _axes(scale: _Scale, x_name: str, y_name: str) -> list[str]:
    parts = [
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{escape(x_name)}</text>',
        f'<text x="8" y="{TOP - 8}">{escape(y_name)}</text>',
    ]
    for tick in range(TICKS + 1):
        value = scale.top * tick / TICKS
        y = scale.y(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dee2e6"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        value = scale.low + scale.wide * tick / TICKS
        parts.append(
            f'<text x="{scale.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{value:.3g}</text>'
        )
    return parts


def _line(scale: _Scale, name: str, points: Points, number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in sorted(points))
    y = TOP + 16 * number
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 8}" width="10" height="10" fill="{colour}"/>',
        f'<text x="{WIDTH - RIGHT + 27}" y="{y + 1}">{escape(name)}</text>',
    ]
