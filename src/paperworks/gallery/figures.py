"""Figures as inline SVG that follow the page's colours, in light and in dark."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

# Stand-ins that become CSS variables once the SVG is written.
INK, SOFT, LINE, PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", PAPER: "var(--paper)"}
# Okabe and Ito's colours: told apart by colour-blind readers too.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c")
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "paperworks",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def colour(names: Sequence[str]) -> dict[str, str]:
    """One colour a name; beyond the palette all are grey."""
    return {name: SERIES[min(index, len(SERIES) - 1)] for index, name in enumerate(names)}


def as_svg(figure: Figure, label: str) -> str:
    """The figure as an inline SVG with an accessible label; closes it."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None, "Creator": None}
    )
    plt.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([^;\"]*)'[^;\"]*", r"font: \1inherit", text)
    attributes = f'<svg role="img" aria-label="{escape(label, quote=True)}" class="figure" '
    return re.sub(r"<svg (?=[^>]*>)", attributes, text, count=1)


def points_by_variant(
    values: Mapping[str, Sequence[float | None]], metric: str, *, log: bool, emphasis: str | None = None
) -> str:
    """Every seed's value as a point, one line a variant, with the mean as a bar."""
    names = list(values)
    shown = names[:40]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 0.6 + 0.34 * len(shown)))
        for place, name in enumerate(shown):
            finite = [value for value in values[name] if value is not None and (not log or value > 0)]
            tint = SERIES[0] if name == emphasis else SOFT
            axes.plot(finite, [place] * len(finite), "o", color=tint, alpha=0.55, ms=6, mec="none")
            if finite:
                centre = math.exp(sum(map(math.log, finite)) / len(finite)) if log else sum(finite) / len(finite)
                axes.plot([centre, centre], [place - 0.28, place + 0.28], "-", color=tint, lw=2)
            lost = len(values[name]) - len([value for value in values[name] if value is not None])
            if lost:
                axes.text(1.01, place, f"{lost} diverged", transform=axes.get_yaxis_transform(), va="center", size=8)
        axes.set_yticks(range(len(shown)), [_short(name) for name in shown])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=LINE, lw=0.5, alpha=0.6)
        axes.set_axisbelow(True)
        if log:
            axes.set_xscale("log")
        axes.set_xlabel(metric.replace("_", " ") + (" (log scale)" if log else ""))
        parts = "; ".join(
            f"{n}: {', '.join('diverged' if v is None else f'{v:.3g}' for v in values[n])}" for n in shown
        )
        return as_svg(figure, f"{metric} by seed. {parts}")


def forest(verdict: Mapping[str, Any]) -> str:
    """The parts of one verdict: effect and interval against the threshold."""
    parts = verdict["parts"][:40]
    ratio = verdict["scale"] == "ratio"
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 0.7 + 0.3 * len(parts)))
        for place, part in enumerate(parts):
            values = [v for v in part["values"] if v is not None and (not ratio or v > 0)]
            axes.plot(values, [place + 0.16] * len(values), ".", color=SOFT, alpha=0.6, ms=5, mec="none")
            ends = part["interval"] or [None, None]
            if ends[0] is not None and ends[1] is not None and (not ratio or ends[0] > 0):
                axes.plot(ends, [place - 0.08] * 2, "-", color=SERIES[0], lw=2.4, solid_capstyle="round")
            if part["effect"] is not None and (not ratio or part["effect"] > 0):
                axes.plot([part["effect"]], [place - 0.08], "o", color=SERIES[0], ms=6, mec=PAPER)
        axes.axvline(verdict["threshold"], color=SERIES[1], lw=1.2, ls=(0, (4, 3)))
        labels = [", ".join(x for x in (part["baseline"], part["cell"]) if x) or verdict["method"] for part in parts]
        axes.set_yticks(range(len(parts)), [_short(label) for label in labels])
        axes.set_ylim(len(parts) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        if ratio:
            axes.set_xscale("log")
        unit = {"ratio": "times better", "difference": "difference, more is better", "exponent": "exponent"}
        axes.set_xlabel(unit.get(verdict["scale"], verdict["metric"].replace("_", " ")))
        return as_svg(figure, verdict["sentence"])


def curves(name: str, by_arm: Mapping[str, Sequence[Sequence[Sequence[float | None]]]]) -> str:
    """Learning curves: every seed thin, one colour an arm."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.2, 3.0))
        tints = colour(list(by_arm))
        positive = True
        for arm, runs in by_arm.items():
            for index, run in enumerate(runs):
                points = [(x, y) for x, y in run if y is not None]
                positive = positive and all(y > 0 for _, y in points)
                xs, ys = [x for x, _ in points], [y for _, y in points]
                axes.plot(xs, ys, color=tints[arm], lw=1.1, alpha=0.7, label=arm if index == 0 else None)
        values = [y for runs in by_arm.values() for run in runs for _, y in run if y is not None]
        if positive and values and max(values) / max(min(values), 1e-300) > 20:
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel(name.replace("_", " "))
        axes.grid(color=LINE, lw=0.5, alpha=0.5)
        if len(by_arm) <= 8:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return as_svg(figure, f"{name} during training, by arm: {', '.join(by_arm)}")


def picture(content: Mapping[str, Any]) -> str:
    """One of a trial's pictures: lines, bars, heatmap, scatter or images."""
    draw = {"lines": _lines, "bars": _bars, "heatmap": _heatmap, "scatter": _scatter, "images": _images}
    with plt.rc_context(STYLE):
        return as_svg(draw[content["kind"]](content), f"{content['title']}. {content.get('caption', '')}")


def _lines(content: Mapping[str, Any]) -> Figure:
    figure, axes = plt.subplots(figsize=(6.4, 3.0))
    for (name, values), tint in zip(content["series"].items(), SERIES * 9, strict=False):
        axes.plot(
            content["x"][: len(values)], [math.nan if v is None else v for v in values], color=tint, lw=1.6, label=name
        )
    _label(axes, content)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _bars(content: Mapping[str, Any]) -> Figure:
    figure, axes = plt.subplots(figsize=(6.4, 3.0))
    axes.bar([str(label) for label in content["labels"]], [v or 0 for v in content["values"]], color=SERIES[0])
    _label(axes, content)
    return figure


def _heatmap(content: Mapping[str, Any]) -> Figure:
    figure, axes = plt.subplots(figsize=(6.4, 3.4))
    values = [[math.nan if v is None else v for v in row] for row in content["values"]]
    shown = axes.imshow(values, aspect="auto", cmap="cividis", interpolation="nearest")
    figure.colorbar(shown, ax=axes, shrink=0.8).outline.set_visible(False)  # type: ignore[union-attr]
    _label(axes, content)
    return figure


def _scatter(content: Mapping[str, Any]) -> Figure:
    figure, axes = plt.subplots(figsize=(4.2, 4.0))
    axes.plot(content["x"], content["y"], "o", color=SERIES[0], ms=3.5, alpha=0.6, mec="none")
    _label(axes, content)
    return figure


def _images(content: Mapping[str, Any]) -> Figure:
    images, labels = content["images"][:16], content.get("labels") or []
    figure, grid = plt.subplots(1, len(images), figsize=(1.5 * len(images), 1.8), squeeze=False)
    for index, (axes, image) in enumerate(zip(grid[0], images, strict=True)):
        axes.imshow(image, cmap=content.get("colours", "cividis"), interpolation="nearest")
        axes.set_axis_off()
        if index < len(labels):
            axes.set_title(_short(str(labels[index]), 18), fontsize=8, loc="center", fontweight="normal")
    return figure


def _label(axes: Any, content: Mapping[str, Any]) -> None:
    for axis, key in (("x", "x_label"), ("y", "y_label")):
        if isinstance(content.get(key), str):
            getattr(axes, f"set_{axis}label")(content[key])
    for axis in ("x", "y"):
        if content.get(f"log_{axis}"):
            getattr(axes, f"set_{axis}scale")("log")


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
