"""Charts and strips: right places, deterministic, coloured by the page, safe with any text."""

import re
import xml.etree.ElementTree as tree

import pytest

from paperworks.gallery import figures
from paperworks.gallery.forest import effect_text, interval_text, strip

CHARTS = {
    "points": lambda: figures.points(
        {"a": [1.0, 2.0, None], "b<script>": [3.0]}, label="l", metric="m", colours={"a": 0}
    ),
    "lines": lambda: figures.lines({"a": ([0, 1, 2], [1.0, None, 3.0]), "$x^2$": ([0, 1], [1, 2])}, label="l"),
    "bars": lambda: figures.bars(["x", "y"], [1.0, None], label="l"),
    "heatmap": lambda: figures.heatmap([[1.0, 2.0], [None, 4.0]], label="l"),
    "scatter": lambda: figures.scatter({"a": ([1, 2], [2, None]), "b": ([0], [1])}, label="l"),
    "network": lambda: figures.network(
        [{"name": n, "label": n, "column": c} for n, c in (("a", 0), ("b", 0), ("AND", 1), ("y", 2))],
        [{"from": a, "to": b, "negated": a == "b"} for a, b in (("a", "AND"), ("b", "AND"), ("AND", "y"))],
        label="l",
    ),
    "images": lambda: figures.images([[[0, 1], [1, 0]]] * 5, ["one"], label="l"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_deterministic_xml_with_the_pages_colours(name):
    first, second = CHARTS[name](), CHARTS[name]()
    assert first == second
    root = tree.fromstring(first)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "l"
    assert not re.search(r"#01010[0-9]|#0102[0-9a-f]{2}", first)
    if name != "images":
        assert "var(--" in first
        assert "<text" in first
    for link in re.findall(r"https?://[^\"']+", first):
        assert link.startswith("http://www.w3.org/")


def test_ids_are_only_those_that_are_referenced():
    svg = CHARTS["lines"]()
    for name in re.findall(r' id="([^"]+)"', svg):
        assert f"#{name}" in svg


def test_hostile_text_stays_text():
    nasty = "<script>alert(1)</script>\x00\x1b]]>&\"'$\\frac{"
    svg = figures.points({nasty: [1.0, 2.0]}, label=nasty, metric=nasty)
    assert "<script" not in svg
    tree.fromstring(svg)


def test_a_mean_is_drawn_only_where_no_seed_diverged():
    whole = figures.points({"a": [1.0, 2.0]}, label="l", metric="m")
    lost = figures.points({"a": [1.0, 2.0, None]}, label="l", metric="m")
    assert "(1 diverged)" in lost
    assert whole.count("stroke-width: 2.2") == 1
    assert lost.count("stroke-width: 2.2") == 0


def test_a_long_name_keeps_both_ends():
    short = figures.clean("method_" * 20 + "07", 30)
    assert len(short) <= 30
    assert short.startswith("method_")
    assert short.endswith("07")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_charts_of_nothing_are_drawn(count):
    figures.points({f"a{i}": [] for i in range(count)}, label="l", metric="m")
    figures.points({f"a{i}": [None] for i in range(count)}, label="l", metric="m")
    figures.bars([], [], label="l")
    figures.lines({"a": ([], [])}, label="l")
    figures.lines({"a": ([0, 1], [None, None])}, label="l")


def test_a_picture_that_does_not_fit_its_kind_is_left_out():
    assert figures.picture({"kind": "heatmap", "title": "t", "values": [[1], [1, 2]]}) is None
    assert figures.picture({"kind": "lines", "title": "t"}) is None
    assert figures.picture({"kind": "unheard of"}) is None


def verdict(scale="ratio", threshold=3.0, better="lower", paired=True):
    return {"scale": scale, "threshold": threshold, "better": better, "paired": paired, "parts": []}


def part(effect, interval, values=()):
    return {"effect": effect, "interval": interval, "values": list(values), "status": "supported"}


def place(svg, kind):
    return [float(x) for x in re.findall(rf'class="{kind}" cx="([\d.]+)%"', svg)]


def test_a_strip_puts_the_threshold_in_the_middle_and_better_to_the_right():
    for scale, threshold, better, good, bad in [
        ("ratio", 3.0, "lower", 8.0, 2.0),
        ("difference", 0.05, "higher", 0.1, 0.0),
        ("value", 0.9, "higher", 0.95, 0.8),
        ("value", 0.2, "lower", 0.1, 0.3),
    ]:
        svg = strip(verdict(scale, threshold, better), part(good, [good, good], [bad, threshold]), "l")
        assert place(svg, "mean")[0] > 50
        assert place(svg, "seed")[0] < 50
        assert place(svg, "seed")[1] == 50
        assert 'class="limit" x1="50%" x2="50%"' in svg


def test_a_ratio_is_placed_by_its_logarithm():
    svg = strip(verdict(threshold=1.0), part(4.0, [2.0, 8.0], [2.0, 8.0]), "l")
    low, high = (x - 50 for x in place(svg, "seed"))
    assert high == pytest.approx(3 * low, abs=0.01)


def test_an_exponent_near_its_target_is_drawn_near_it():
    near = place(strip(verdict("exponent", -2.0, "higher"), part(-2.03, [-2.04, -2.02]), "l"), "mean")[0]
    assert 45 < near < 50


def test_an_unbounded_end_is_an_arrow_and_unpaired_values_are_no_effects():
    svg = strip(verdict(), part(8.0, [None, 9.0], [1.0, 2.0]), "l")
    assert svg.count('class="open"') == 1
    assert not place(strip(verdict(paired=False), part(8.0, [5.0, 9.0], [100.0]), "l"), "seed")
    assert not place(strip(verdict(), part(None, None), "l"), "mean")


def test_effects_and_intervals_in_words():
    assert effect_text("ratio", 8.12) == "8.12×"
    assert effect_text("difference", 0.0123) == "+0.0123"
    assert effect_text("difference", -0.5) == "−0.5"
    assert effect_text("value", None) == "no value"
    assert effect_text("ratio", 0.0) == "diverged"
    assert interval_text("ratio", [None, 3.0]) == "unbounded to 3×"
    assert interval_text("value", None) == "no interval"


def test_a_series_keeps_its_colour_whatever_else_is_drawn():
    places = {"first": 0, "second": 1, "third": 2}
    for chart in (
        figures.points({"third": [1.0, 2.0]}, label="l", metric="m", colours=places),
        figures.lines({"third": ([0, 1], [1.0, 2.0])}, label="l", colours=places),
    ):
        assert "var(--series-3)" in chart
        assert "var(--series-1)" not in chart
    both = figures.lines({"third": ([0, 1], [1, 2]), "first": ([0, 1], [2, 1])}, label="l", colours=places)
    assert {"var(--series-1)", "var(--series-3)"} <= set(re.findall(r"var\(--series-\d\)", both))


def test_a_curve_over_decades_is_logarithmic_but_a_function_of_a_signed_variable_is_not():
    decades = [1e-4, 1e-2, 1.0]
    assert ">1e−4<" in figures.lines({"a": ([1, 2, 3], decades)}, label="l")
    assert ">1e−4<" not in figures.lines({"a": ([-1, 0, 1], decades)}, label="l")


def test_whole_places_have_whole_ticks():
    assert ">1.5<" not in figures.lines({"a": ([1, 2, 3], [5.0, 6.0, 7.0])}, label="l")
    assert ">0.2<" in figures.lines({"a": ([0.0, 0.3, 1.2], [5.0, 6.0, 7.0])}, label="l")
