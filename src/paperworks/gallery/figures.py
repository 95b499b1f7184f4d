"""Charts as inline SVG: drawn by matplotlib without a window, coloured by the page's own CSS variables.

Every colour is drawn as a stand-in that is then replaced by `var(--ink)`, `var(--series-1)` and so on, so that one
drawing is legible in light and in dark mode. Text stays text, ids are deterministic and unreferenced ones are dropped,
and every drawing carries a label for readers who do not see it. A chart is 360 pixels wide, one column of a phone;
pages place several side by side.
"""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from paperworks.lab.verdict import number

WIDTH = 360  # pixels, one column of a phone
SERIES = 8  # colours of the palette; further series are drawn in the muted one
ROWS = 60  # rows of a chart of points; the rest is in the table of all rows

_INK, _MUTED, _GRID = "#010101", "#010102", "#010103"
_SERIES = [f"#0102{index:02x}" for index in range(1, SERIES + 1)]
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _GRID: "--line"} | {
    colour: f"--series-{index}" for index, colour in enumerate(_SERIES, 1)
}
_MARKERS = "osD^vPX*"
_MAPS = {"grey": "gray", "field": "cividis", "signed": "RdBu_r", "error": "inferno"}  # of pictures
_DASHES = ("-", "--", "-.", ":")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.labelsize": 12,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.6,
}

Points = Sequence[float | None]


def clean(text: Any, longest: int = 40) -> str:
    """`text` on one line, without control characters; a long one keeps its beginning and its end."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]+", " ", str(text)).strip()
    if len(line) <= longest:
        return line
    tail = longest // 3
    return f"{line[: longest - 1 - tail].rstrip()}…{line[-tail:].lstrip()}"


def points(rows: Mapping[str, Points], *, label: str, metric: str, colours: Mapping[str, int] | None = None) -> str:
    """Every seed's value of a metric, one line of dots a row, with the mean as a bar; a null is said in words.

    `colours` gives rows their places in the palette; the others are drawn in the muted colour.
    """
    shown = list(rows.items())[:ROWS]
    height = 54 + 38 * len(shown)
    with _drawing(height, label) as (figure, done):
        axes = figure.add_axes((0.03, 46 / height, 0.94, 1 - 50 / height))
        finite = [value for _, values in shown for value in values if value is not None]
        _scale(axes, "x", finite)
        for place, (name, values) in enumerate(shown):
            colour = _colour((colours or {}).get(name, SERIES))
            known = [value for value in values if value is not None]
            lost = len(values) - len(known)
            text = clean(name, 40) + (f"  ({lost} diverged)" if lost else "")
            axes.text(0, place - 0.1, text, transform=axes.get_yaxis_transform(), va="bottom", ha="left", color=_INK)
            axes.axhline(place + 0.16, color=_GRID, linewidth=0.6, zorder=0)
            axes.plot(known, [place + 0.16] * len(known), "o", ms=6.2, mfc=colour, mec="none", alpha=0.65)
            if known and len(known) == len(values):
                mean = math.fsum(known) / len(known)
                axes.plot([mean, mean], [place - 0.04, place + 0.36], color=colour, linewidth=2.2)
        axes.set_ylim(len(shown) - 0.45, -0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(clean(metric, 50))
    return done()


def lines(
    series: Mapping[str, tuple[Points, Points]],
    *,
    label: str,
    x: str = "",
    y: str = "",
    single: Mapping[str, Sequence[tuple[Points, Points]]] | None = None,
    dots: bool = False,
    colours: Mapping[str, int] | None = None,
) -> str:
    """Named curves; `single` holds the seeds behind each, drawn thin. Beyond eight, the others are muted.

    `colours` gives curves their places in the palette; without it they take them in order.
    """
    if colours is not None and all(name in colours for name in series):
        series = dict(sorted(series.items(), key=lambda item: colours[item[0]]))
    else:
        colours = {name: place for place, name in enumerate(series)}
    columns = 1 if any(len(name) > 16 for name in series) else 2
    named = list(series)[:SERIES]
    legend = (math.ceil(len(named) / columns) + (len(series) > SERIES)) * 19 + 8 if len(series) > 1 else 0
    height = 252 + legend
    with _drawing(height, label) as (figure, done):
        axes = figure.add_axes((0.17, (48 + legend) / height, 0.79, 1 - (70 + legend) / height))
        values = [v for _, ys in series.values() for v in ys if v is not None]
        values += [v for many in (single or {}).values() for _, ys in many for v in ys if v is not None]
        across = [v for xs, _ in series.values() for v in xs if v is not None]
        signed = any(v < 0 for v in across)  # a function of a signed variable is read by its height, not its decades
        _scale(axes, "y", values, even=signed)
        if dots:
            _scale(axes, "x", across)
        else:
            _ticks(axes, "x")
            if all(v == int(v) for v in across if math.isfinite(v)):
                axes.xaxis.get_major_locator().set_params(integer=True)
        for place, (name, (xs, ys)) in enumerate(series.items()):
            spot = colours[name]
            colour = _colour(spot)
            order = 3 if place < SERIES else 1
            for seed_xs, seed_ys in (single or {}).get(name, ()):
                style: dict[str, Any] = dict(marker="o", ms=3, linestyle="none") if dots else dict(linewidth=0.7)
                axes.plot(seed_xs, _holes(seed_ys), color=colour, alpha=0.4, zorder=order, **style)
            marker = _MARKERS[spot % len(_MARKERS)] if dots or len(xs) <= 12 else None
            axes.plot(
                xs,
                _holes(ys),
                color=colour,
                marker=marker,
                ms=4,
                linestyle=_DASHES[(spot // 2) % 4] if place < SERIES else "-",
                linewidth=1.7 if place < SERIES else 0.7,
                zorder=order + 0.5,
                label=clean(name, 38 if columns == 1 else 15) if place < SERIES else None,
            )
        if len(series) > SERIES:
            axes.plot([], [], color=_MUTED, linewidth=0.7, label=f"{len(series) - SERIES} others")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel(clean(x, 50))
        axes.set_title(clean(y, 44), loc="left", fontsize=12, color=_MUTED, pad=6)
        if len(series) > 1:
            figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0), ncols=columns, handlelength=2.4, borderpad=0.1)
    return done()


def bars(labels: Sequence[Any], values: Points, *, label: str, x: str = "", y: str = "") -> str:
    """Horizontal bars with their values written at the end."""
    shown = list(zip(labels, values, strict=False))[:ROWS]
    height = 54 + 40 * len(shown)
    with _drawing(height, label) as (figure, done):
        axes = figure.add_axes((0.03, 46 / height, 0.94, 1 - 50 / height))
        heights = [0.0 if value is None else float(value) for _, value in shown]
        axes.barh([i + 0.16 for i in range(len(shown))], heights, height=0.3, color=_SERIES[0])
        for place, (name, value) in enumerate(shown):
            text = "diverged" if value is None else number(float(value))
            across = axes.get_yaxis_transform()
            axes.text(0, place - 0.1, clean(name, 36), transform=across, va="bottom", ha="left")
            axes.text(1, place - 0.1, text, transform=across, va="bottom", ha="right", color=_MUTED)
        axes.set_ylim(max(len(shown), 1) - 0.5, -0.8)
        axes.axvline(0, color=_GRID)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _ticks(axes, "x")
        axes.set_xlabel(clean(y or x, 50))
    return done()


def heatmap(values: Sequence[Points], *, label: str, x: str = "", y: str = "") -> str:
    """A matrix of numbers with its colour scale; nulls are left empty."""
    grid = _grid(values)
    tall = min(max(len(grid) / max(len(grid[0]), 1), 0.35), 1.2)
    height = round(64 + 270 * tall)
    with _drawing(height, label) as (figure, done):
        axes = figure.add_axes((0.16, 48 / height, 0.62, 1 - 56 / height))
        image = axes.imshow(grid, cmap="cividis", aspect="auto", interpolation="nearest")
        bar = figure.colorbar(image, cax=figure.add_axes((0.81, 48 / height, 0.025, 1 - 56 / height)))
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        bar.ax.yaxis.set_major_formatter(lambda value, _: _tick(value))
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(clean(x, 50))
        axes.set_ylabel(clean(y, 30))
    return done()


def scatter(groups: Mapping[str, tuple[Points, Points]], *, label: str, x: str = "", y: str = "") -> str:
    """Points, one colour and marker a group."""
    legend = 21 * math.ceil(len(groups) / 2) if len(groups) > 1 else 0
    height = 290 + legend
    with _drawing(height, label) as (figure, done):
        axes = figure.add_axes((0.17, (48 + legend) / height, 0.79, 1 - (70 + legend) / height))
        for place, (name, (xs, ys)) in enumerate(groups.items()):
            both = [(a, b) for a, b in zip(xs, ys, strict=False) if a is not None and b is not None]
            axes.plot(
                [a for a, _ in both],
                [b for _, b in both],
                _MARKERS[place % len(_MARKERS)],
                color=_SERIES[place] if place < SERIES else _MUTED,
                ms=4.2 if len(both) < 200 else 2.4,
                alpha=0.7,
                mec="none",
                label=clean(name, 16),
            )
        _ticks(axes, "x")
        _ticks(axes, "y")
        axes.grid()
        axes.set_axisbelow(True)
        axes.set_xlabel(clean(x, 50))
        axes.set_title(clean(y, 44), loc="left", fontsize=12, color=_MUTED, pad=6)
        if legend:
            figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0), ncols=2, handletextpad=0.2, borderpad=0.1)
    return done()


def pareto(
    places: Mapping[str, Sequence[tuple[float, float]]],
    intervals: Mapping[str, Sequence[Sequence[float] | None]],
    front: Sequence[tuple[float, float]],
    colours: Sequence[int],
    *,
    label: str,
    x: str = "",
    y: str = "",
) -> str:
    """Error against cost, both on logarithmic axes: lower left is better.

    Args:
        places: model -> (cost, error) of each of its sizes.
        intervals: model -> ends of the error's interval at each, or None.
        front: places that no other beats in both, by cost; joined by steps.
        colours: each model's place in the palette; its mark is that of `mark`.
    """
    height = 300
    with _drawing(height, label) as (figure, done):
        axes = figure.add_axes((0.17, 48 / height, 0.79, 1 - 76 / height))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(0.12)
        if front:
            across, errors = zip(*front, strict=True)
            axes.step(across, errors, where="post", color=_MUTED, linewidth=1, linestyle=":", zorder=1)
        for place, (name, found) in zip(colours, places.items(), strict=True):
            colour, marker = _marked(place)
            found = sorted(zip(found, intervals[name], strict=True))
            if len(found) > 1:
                axes.plot([a for (a, _), _ in found], [b for (_, b), _ in found], color=colour, linewidth=1.2)
            for (cost, error), ends in found:
                if ends:
                    low = max(ends[0], error / 10)  # an interval down to zero has no end on this axis
                    axes.plot([cost, cost], [low, ends[1]], color=colour, linewidth=1.6, solid_capstyle="butt")
                axes.plot([cost], [error], marker, color=colour, ms=7, mec="none", zorder=3)
        costs = [cost for found in places.values() for cost, _ in found]
        if costs and max(costs) < 2 * min(costs):  # nearly equal: a few per cent must not look like a difference
            axes.set_xlim(min(costs) / 2, max(costs) * 2)
        _log_ticks(axes, "x")
        _log_ticks(axes, "y")
        axes.grid()
        axes.set_axisbelow(True)
        axes.set_xlabel(clean(x, 50))
        axes.set_title(clean(y, 44), loc="left", fontsize=12, color=_MUTED, pad=6)
    return done()


def mark(place: int, label: str) -> str:
    """A model's mark in `pareto`, alone: for a legend in the page's own text."""
    with _drawing(18, label, width=18) as (figure, done):
        axes = figure.add_axes((0, 0, 1, 1))
        colour, marker = _marked(place)
        axes.plot([0], [0], marker, color=colour, ms=9, mec="none")
        axes.set_axis_off()
    return done()


def _marked(place: int) -> tuple[str, str]:
    """Colour and marker of a series; beyond the palette colours come again with other markers."""
    return _SERIES[place % SERIES], _MARKERS[(place + place // SERIES) % len(_MARKERS)]


def _log_ticks(axes: Any, axis: str) -> None:
    """Ticks that tell a narrow logarithmic axis: at 1, 2, 5 of each decade, or where there are too few, evenly."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    drawn = getattr(axes, f"{axis}axis")
    low, high = getattr(axes, f"get_{axis}lim")()
    drawn.set_minor_locator(NullLocator())
    drawn.set_minor_formatter(NullFormatter())
    if high / low > 300:
        drawn.set_major_locator(LogLocator(numticks=5))
    elif high / low > 4:
        drawn.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 40 else (1, 3), numticks=6))
    else:
        drawn.set_major_locator(MaxNLocator(4))
    drawn.set_major_formatter(lambda value, _: _thousands(float(f"{value:.3g}")))


def _thousands(value: float) -> str:
    """A tick of counts: 20k, 1.5M; smaller numbers as elsewhere."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return _tick(value)


def images(
    panels: Sequence[Sequence[Points]],
    names: Sequence[Any],
    *,
    label: str,
    columns: int = 4,
    ranges: Sequence[Sequence[float] | None] = (),
    colours: Sequence[str] = (),
    stretch: bool = False,
) -> str:
    """Small pictures side by side, row by row.

    Args:
        columns: pictures a row.
        ranges: for each picture the values at the ends of its colours, which are then told below it; panels of one
            range can be compared. None: its own smallest and largest value, untold.
        colours: for each picture `grey`, `field`, `signed` (white at the middle) or `error`.
        stretch: fill a panel of 5:3 whatever the numbers of rows and columns (space against time, say).
    """
    grids = [_grid(panel) for panel in panels]
    columns = min(columns, max(len(grids), 1))
    rows = math.ceil(len(grids) / columns) or 1
    width = WIDTH / columns
    tall = 0.6 if stretch else min(max((len(grid) / len(grid[0]) for grid in grids), default=1.0), 1.5)
    side, below = (width - 6) * tall, 24 if any(ranges) else 0
    step = side + 19 + below
    height = round(rows * step)
    with _drawing(height, label) as (figure, done):
        for place, grid in enumerate(grids):
            row, column = divmod(place, columns)
            bottom = 1 - (row * step + 17 + side) / height
            left, across = (column * width + 3) / WIDTH, (width - 6) / WIDTH
            axes = figure.add_axes((left, bottom, across, side / height))
            kind = colours[place] if place < len(colours) else "grey"
            low, high = (ranges[place] if place < len(ranges) else None) or (None, None)
            image = axes.imshow(
                grid,
                cmap=_MAPS.get(kind, "gray"),
                interpolation="nearest",
                vmin=low,
                vmax=high,
                aspect="auto" if stretch else "equal",
            )
            axes.set_axis_off()
            if place < len(names):
                axes.set_title(clean(names[place], max(40 // columns, 6)), fontsize=11, pad=2, color=_MUTED)
            if low is not None and high is not None:
                bar = figure.add_axes((left, bottom - 8 / height, across, 5 / height))
                figure.colorbar(image, cax=bar, orientation="horizontal").outline.set_visible(False)  # pyright: ignore
                bar.set_xticks([])
                for x, value, side_of in ((0, low, "left"), (1, high, "right")):
                    text = _tick(float(f"{value:.2g}"))
                    bar.text(x, -0.4, text, transform=bar.transAxes, va="top", ha=side_of, fontsize=10, color=_MUTED)
    return done()


def network(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]], *, label: str) -> str:
    """Boxes in columns, joined from left to right; a dashed edge with a ring at its end negates.

    Args:
        nodes: `name`, `label` (what is written), `column` (from 0).
        edges: `from` and `to` by name, `negated`.
    """
    columns: dict[int, list[str]] = {}
    for node in nodes:
        columns.setdefault(int(node["column"]), []).append(str(node["name"]))
    before: dict[str, list[str]] = {}
    for edge in edges:
        before.setdefault(str(edge["to"]), []).append(str(edge["from"]))
    order = sorted(columns)
    height = 20 + 40 * max(map(len, columns.values()))
    place: dict[str, tuple[float, float]] = {}
    for rank, column in enumerate(order):
        x = 30 + rank * (WIDTH - 60) / max(len(order) - 1, 1)
        found = {n: [place[b][1] for b in before.get(n, []) if b in place] for n in columns[column]}
        ordered = sorted(columns[column], key=lambda n: math.fsum(found[n]) / len(found[n]) if found[n] else math.inf)
        step = height / len(ordered)
        place |= {name: (x, (row + 0.5) * step) for row, name in enumerate(ordered)}
    half = min(22.0, 0.36 * (WIDTH - 60) / max(len(order) - 1, 1))
    with _drawing(height, label) as (figure, done):
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, WIDTH)
        axes.set_ylim(height, 0)
        axes.set_axis_off()
        for edge in edges:
            (x0, y0), (x1, y1) = place[str(edge["from"])], place[str(edge["to"])]
            down = bool(edge.get("negated"))
            style: dict[str, Any] = dict(color=_SERIES[1] if down else _MUTED, zorder=1)
            axes.plot([x0 + half, x1 - half], [y0, y1], linestyle="--" if down else "-", linewidth=1.1, **style)
            if down:
                axes.plot([x1 - half - 3], [y1 - (y1 - y0) * 3 / max(x1 - x0 - 2 * half, 1)], "o", ms=4, **style)
        from matplotlib.patches import FancyBboxPatch

        for node in nodes:
            x, y = place[str(node["name"])]
            end = str(node["name"]) not in before or int(node["column"]) == order[-1]
            box = FancyBboxPatch(
                (x - half, y - 10), 2 * half, 20, boxstyle="round,pad=0,rounding_size=5", facecolor="none",
                edgecolor=_MUTED if end else _SERIES[0], linewidth=0.7 if end else 1.4,
            )  # fmt: skip
            axes.add_patch(box)
            text = clean(node["label"], max(4, int(half / 3)))
            axes.text(x, y, text, ha="center", va="center_baseline", fontsize=11, color=_INK)
    return done()


def picture(content: Mapping[str, Any]) -> str | None:
    """What a trial kept with `t.picture`, drawn; None where its content does not fit its kind."""
    title, x, y = (clean(content.get(name) or "", 80) for name in ("title", "x", "y"))
    kind = content.get("kind")
    label = f"{title}: {kind}. {clean(content.get('caption') or '', 200)}"
    named: dict[str, Any] = dict(
        x=x if isinstance(content.get("x"), str) else "", y=y if isinstance(content.get("y"), str) else ""
    )
    named |= {axis: clean(content[f"{axis}_label"]) for axis in ("x", "y") if content.get(f"{axis}_label")}
    try:
        if kind == "lines":
            xs = content.get("x")
            curves = {
                str(name): (xs if isinstance(xs, list) else list(range(len(ys))), ys)
                for name, ys in content["series"].items()
            }
            return lines(curves, label=label, **named)
        if kind == "bars":
            return bars(content["labels"], content["values"], label=label, **named)
        if kind == "heatmap":
            return heatmap(content["values"], label=label, **named)
        if kind == "scatter":
            groups = content.get("series") or {"": (content["x"], content["y"])}
            return scatter({str(k): (v[0], v[1]) for k, v in groups.items()}, label=label, **named)
        if kind == "network":
            return network(content["nodes"], content["edges"], label=label)
        if kind == "images":
            panels = content.get("images") or content.get("values") or []
            shown = {name: content[name] for name in ("columns", "ranges", "colours", "stretch") if content.get(name)}
            return images(panels, content.get("labels") or [], label=label, **shown) if panels else None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    return None


def _grid(values: Sequence[Points]) -> Any:
    import numpy

    grid = numpy.array([[math.nan if v is None else float(v) for v in row] for row in values], dtype=float)
    if grid.ndim != 2 or not grid.size:
        raise ValueError("a matrix of numbers is expected")
    return grid


def _holes(values: Points) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _colour(place: int) -> str:
    return _SERIES[place] if place < SERIES else _MUTED


def _scale(axes: Any, axis: str, values: Sequence[float], even: bool = False) -> None:
    """A logarithmic axis for positive values that span more than a factor of fifty, unless it is to be `even`."""
    if not even and values and min(values) > 0 and max(values) / min(values) > 50:
        (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
        from matplotlib.ticker import NullFormatter

        getattr(axes, f"{axis}axis").set_minor_formatter(NullFormatter())
    else:
        axes.locator_params(axis=axis, nbins=5)
    _ticks(axes, axis)


def _ticks(axes: Any, axis: str) -> None:
    getattr(axes, f"{axis}axis").set_major_formatter(lambda value, _: _tick(value))
    axes.margins(**{axis: 0.04})


def _tick(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    if 1e-3 <= size < 1e4:
        return f"{value:.4g}".replace("-", "−")
    digits, power = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}".replace("-", "−")


@contextmanager
def _drawing(height: int, label: str, width: int = WIDTH) -> Iterator[tuple[Any, Callable[[], str]]]:
    """A figure to draw on, and what gives its SVG after the block has closed."""
    import matplotlib
    from matplotlib.figure import Figure

    result: list[str] = []
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the measuring font lacks: the browser draws the text
        figure = Figure(figsize=(width / 72, height / 72))
        yield figure, lambda: result[0]
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        result.append(_inlined(buffer.getvalue(), width, height, label))


def _inlined(svg: str, width: int, height: int, label: str) -> str:
    """The drawing as part of a page: no prologue, no stray ids, the page's colours and font."""
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = body[body.index(">") + 1 :]
    body = re.sub(r"#[0-9a-f]{6}", lambda found: _variable(found[0]), body)
    body = body.replace("'DejaVu Sans'", "var(--sans)")
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w-]+)", body))
    body = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", body)
    body = re.sub(r"\n\s*", "\n", body)
    kind = "chart" if width == WIDTH else "mark"
    opening = (
        f'<svg class="{kind}" role="img" aria-label="{escape(clean(label, 300), quote=True)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return opening + body.strip()


def _variable(colour: str) -> str:
    return f"var({_VARIABLES[colour]})" if colour in _VARIABLES else colour
