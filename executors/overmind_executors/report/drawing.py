"""Figures as SVG, drawn by leather, which is loaded when the first one is drawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from overmind_executors.report.content import Figure, plain, shown

_WIDTH: Final = 720
_HEIGHT: Final = 320
_BAR_HEIGHT: Final = 34
_MOST_LABEL: Final = 28
_BESIDE: Final = 8
_DOT: Final = re.compile(r'<circle cx="(?P<x>[0-9.]+)" cy="(?P<y>[0-9.]+)"[^>]*/>')
# Seen on white and on black; told apart by people who do not see red or green (Okabe and Ito, 2008).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
# The page's own ink, so that a figure follows its light and its dark side.
_THEME: Final[Mapping[str, object]] = {
    "background_color": "none",
    "title_color": "currentColor",
    "legend_color": "currentColor",
    "axis_title_color": "currentColor",
    "label_color": "currentColor",
    "tick_color": "#8886",
    "zero_color": "#888",
    "title_font_family": "inherit",
    "legend_font_family": "inherit",
    "axis_title_font_family": "inherit",
    "tick_font_family": "inherit",
}


def svg_of(figure: Figure) -> str:
    """
    *figure* as one `<svg>` element: no script, no style, no link, every text escaped. Empty for nothing to draw.

    Raises:
        ValueError: a series holds something else than numbers.
    """
    series = _series(figure)
    if not any(series):
        return ""
    chart = _leather().Chart()
    _DRAW[figure.drawn](chart, figure, series)
    height = max(_HEIGHT, _BAR_HEIGHT * len(series[0])) if figure.drawn == "bars" else _HEIGHT
    label = escape(plain(figure.table.caption))
    tag = f'<svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {height}" '
    drawn = str(chart.to_svg(width=_WIDTH, height=height)).replace("<svg ", tag, 1)
    return _with_labels(drawn, _in_drawn_order(figure))


def _in_drawn_order(figure: Figure) -> list[str]:
    """A label for each dot, in the order of the drawing: series after series, row after row."""
    cells = range(1, len(figure.table.columns)) if figure.labels else ()
    return [
        label
        for n in cells
        for row, label in zip(figure.table.rows, figure.labels, strict=True)
        if row[n] is not None
    ]


def _with_labels(svg: str, labels: list[str]) -> str:
    """Each label stands beside its dot, on the side on which there is more room."""
    left = iter(labels)

    def labelled(dot: re.Match[str]) -> str:
        if (label := next(left, None)) is None:
            return dot[0]
        x, y = float(dot["x"]), float(dot["y"])
        side, anchor = (1, "start") if x < _WIDTH / 2 else (-1, "end")
        place = f'x="{x + side * _BESIDE:.1f}" y="{y - _BESIDE:.1f}" text-anchor="{anchor}"'
        return f'{dot[0]}<text {place} fill="currentColor" font-size="12">{escape(plain(label))}</text>'

    return _DOT.sub(labelled, svg)


def _series(figure: Figure) -> list[list[tuple[Any, float]]]:
    """For each column after the first: its points, those without a number left out."""
    columns = range(1, len(figure.table.columns))
    return [[(row[0], _number(row[n])) for row in figure.table.rows if row[n] is not None] for n in columns]


def _number(cell: Any) -> float:
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise ValueError(f"a figure needs numbers, not {type(cell).__name__}")
    return float(cell)


def _leather() -> Any:
    import leather

    vars(leather.theme).update(_THEME)
    return leather


def _labelled(points: list[tuple[Any, float]]) -> list[tuple[str, float]]:
    """Labels cut short and made different from each other: a second one of the same name would hide the first."""
    seen: dict[str, int] = {}
    made = []
    for cell, value in points:
        label = shown(cell)
        label = label if len(label) <= _MOST_LABEL else label[: _MOST_LABEL - 1] + "…"
        seen[label] = seen.get(label, 0) + 1
        made.append((label if seen[label] == 1 else f"{label} ({seen[label]})", value))
    return made


def _bars(chart: Any, figure: Figure, series: list[list[tuple[Any, float]]]) -> None:
    (points,) = series
    chart.add_bars([(value, label) for label, value in _labelled(points)], fill_color=_COLOURS[0])
    chart.add_x_scale(*_from_zero(points))
    chart.add_x_axis(name=plain(figure.table.columns[1]))


def _columns(chart: Any, figure: Figure, series: list[list[tuple[Any, float]]]) -> None:
    (points,) = series
    chart.add_columns(_labelled(points), fill_color=_COLOURS[0])
    chart.add_y_scale(*_from_zero(points))
    _name_axes(chart, figure)


def _from_zero(points: list[tuple[Any, float]]) -> tuple[float, float]:
    """A bar begins at zero, and zeros alone need some height, too."""
    values = [value for _, value in points]
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    return (low, high) if low < high else (0.0, 1.0)


def _dots(chart: Any, figure: Figure, series: list[list[tuple[Any, float]]]) -> None:
    points = [(_number(x), y) for one in series for x, y in one]
    for add_scale, values in zip((chart.add_x_scale, chart.add_y_scale), zip(*points, strict=True), strict=True):
        if len(set(values)) == 1 and not figure.diagonal:  # leather would draw from 0 to 1, and the dot outside
            room = abs(values[0]) / 2 or 1.0
            add_scale(values[0] - room, values[0] + room)
    _diagonal(chart, figure)
    for colour, name, points in _drawable(figure, series):
        chart.add_dots(_pairs(points), name=plain(name), fill_color=colour, radius=5)
    _name_axes(chart, figure, _filled(figure, series))


def _line(chart: Any, figure: Figure, series: list[list[tuple[Any, float]]]) -> None:
    _diagonal(chart, figure)
    for colour, name, points in _drawable(figure, series):
        chart.add_line(_pairs(points), name=plain(name), stroke_color=colour, width=2)
    _name_axes(chart, figure)


def _drawable(
    figure: Figure, series: list[list[tuple[Any, float]]]
) -> Iterator[tuple[str, str, list[tuple[Any, float]]]]:
    """Colour, name and points of each series that has any: leather falls over an empty one."""
    for colour, name, points in zip(_COLOURS, figure.table.columns[1:], series, strict=False):
        if points:
            yield colour, name, points


def _pairs(points: list[tuple[Any, float]]) -> list[tuple[float, float]]:
    return [(_number(x), y) for x, y in points]


def _diagonal(chart: Any, figure: Figure) -> None:
    if figure.diagonal:
        chart.add_line([(0.0, 0.0), (1.0, 1.0)], name="equal", stroke_color="#888", width=1)


def _filled(figure: Figure, series: list[list[tuple[Any, float]]]) -> list[str]:
    return [name for name, points in zip(figure.table.columns[1:], series, strict=True) if points]


def _name_axes(chart: Any, figure: Figure, names: Sequence[str] = ()) -> None:
    """*names* of the series that are drawn, else all: leather has no legend for one alone."""
    x, *y = figure.table.columns
    chart.add_x_axis(name=plain(x))
    if len(names or y) == 1:
        chart.add_y_axis(name=plain((names or y)[0]))


_DRAW: Final[Mapping[str, Callable[[Any, Figure, list[list[tuple[Any, float]]]], None]]] = {
    "bars": _bars,
    "columns": _columns,
    "dots": _dots,
    "line": _line,
}
