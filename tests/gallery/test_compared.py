"""The pages of comparisons and fits: everything behind the answer is there, and nothing on them can run."""

import base64
import json
import re
import xml.etree.ElementTree as tree
from html.parser import HTMLParser

import pytest

from paperworks.gallery import figures, write_comparison, write_fit_report
from paperworks.gallery.compared import view


class Page(HTMLParser):
    """Collects elements, addresses and text."""

    def __init__(self, text):
        super().__init__()
        self.names, self.addresses, self.events, self.words, self.hidden = [], [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.hidden += tag in ("style", "script")
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        self.events += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "script")

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def read(path):
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.names.count("script") == 1
    assert not page.events
    for address in page.addresses:
        assert address.startswith(("#", "data:")), address
    assert not re.search(r"@import|url\((?!#)", text)
    return text, page


def test_a_comparison_holds_every_part(plausible, tmp_path):
    result = plausible.compared()
    _, page = read(write_comparison(result, tmp_path / "compare.html"))
    assert result["comparison"]["sentence"] in page.text
    for heading in ("Every model", "What they predict", "Every seed", "Learning curves", "Equal tuning", "Repeat it"):
        assert heading in page.text
    for entry in result["comparison"]["models"]:
        assert f"{entry['parameters']:,}" in page.text
        assert entry["about"] in page.text
    assert "Left out: cube (takes fields in three dimensions)." in page.text
    assert page.text.count("no claim") == 3
    assert result["command"] in page.text
    link = next(a for a in page.addresses if a.startswith("data:application/json;base64,"))
    assert json.loads(base64.b64decode(link.split(",", 1)[1])) == result


def test_the_best_comes_first_and_only_what_is_unequal_is_marked(plausible):
    shown = view(plausible.compared())
    assert [row["model"] for row in shown["rows"]] == ["model4", "model3", "model2", "model1", "model0"]
    assert shown["rows"][0]["ratio"] == "best"
    assert [row["unequal"] for row in shown["rows"]] == [True, True, False, False, False]  # 108 thousand and fewer
    assert shown["rows"][-1]["others"][0]["mean"]
    assert [chart["cost"] for chart in shown["pareto"]] == [
        "parameters",
        "seconds of training",
        "inference, ms a sample",
    ]


def test_a_diverged_model_is_said_and_comes_last(plausible, tmp_path):
    result = plausible.compared(diverge=True)
    assert result["comparison"]["models"][-1]["model"] == "model1"
    _, page = read(write_comparison(result, tmp_path / "compare.html"))
    assert "diverged in 1 of 3" in page.text


def test_one_seed_has_no_intervals_and_claims_no_difference(plausible, tmp_path):
    result = plausible.compared(seeds=1)
    _, page = read(write_comparison(result, tmp_path / "compare.html"))
    assert "One seed: no difference is certain." in page.text


def test_the_same_comparison_gives_the_same_page(plausible, tmp_path):
    first = write_comparison(plausible.compared(), tmp_path / "a.html").read_bytes()
    assert write_comparison(plausible.compared(), tmp_path / "b.html").read_bytes() == first


def test_hostile_names_stay_text(plausible, tmp_path):
    text, page = read(write_comparison(plausible.compared(name=plausible.HOSTILE), tmp_path / "compare.html"))
    assert "<script>window" not in text
    assert "img" not in page.names
    report = plausible.fit_report()
    report["settings"] = {plausible.HOSTILE: plausible.HOSTILE}
    report["model"] = plausible.HOSTILE
    report["metrics"]["validation"][plausible.HOSTILE] = 1.0
    for content in report["pictures"]:
        content["title"] = content["caption"] = plausible.HOSTILE
    card = plausible.card(title=plausible.HOSTILE)
    text, page = read(write_fit_report(report, card, plausible.HOSTILE, tmp_path / "fit.html"))
    assert "<script>window" not in text
    assert "img" not in page.names


def test_a_fit_holds_scores_curves_and_pictures(plausible, tmp_path):
    _, page = read(write_fit_report(plausible.fit_report(), plausible.card(), "some/pairs.h5", tmp_path / "fit.html"))
    assert "deeponet fitted to pairs.h5" in page.text
    assert "On the validation rows: relative L2 0.0345, rollout L2 0.0567" in page.text
    assert "10 validation rows , held out of training" in page.text or "10 validation rows, held out" in page.text
    assert page.names.count("svg") == 2 + len(plausible.fit_report()["pictures"])
    assert "could not be drawn" not in page.text


def test_a_fit_without_validation_says_that_the_model_has_seen_the_rows(plausible, tmp_path):
    report = plausible.fit_report()
    del report["metrics"]["validation"]
    report |= {"pictures": [], "curves": {}, "pictured": "train"}
    _, page = read(write_fit_report(report, plausible.card(), "pairs.h5", tmp_path / "fit.html"))
    assert "how well it fits, not how well it predicts" in page.text
    assert "Pictures" not in page.text


def test_a_picture_that_cannot_be_drawn_is_said(plausible, tmp_path):
    report = plausible.fit_report()
    report["pictures"] = [{"title": "Nothing", "kind": "images", "images": [[1, 2]]}]
    _, page = read(write_fit_report(report, plausible.card(), "pairs.h5", tmp_path / "fit.html"))
    assert "This picture could not be drawn." in page.text


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_pareto_picture_draws_every_model(count):
    places = {f"m{i}": [(10.0 * (i + 1), 1.0 / (i + 1))] for i in range(count)}
    intervals = {name: [[error * 0.9, error * 1.1]] for name, ((_, error),) in places.items()}
    front = sorted(point for (point,) in places.values())
    svg = figures.pareto(places, intervals, front, range(count), label="l", x="cost", y="error")
    tree.fromstring(svg)
    assert svg == figures.pareto(places, intervals, front, range(count), label="l", x="cost", y="error")
    bars = svg.count("stroke-width: 1.6")
    assert bars == count


def test_costs_a_few_per_cent_apart_are_drawn_close_together():
    def places(costs):
        drawn = {f"m{i}": [(cost, 0.1 * (i + 1))] for i, cost in enumerate(costs)}
        svg = figures.pareto(drawn, {name: [None] for name in drawn}, [], range(len(costs)), label="l")
        return [float(x) for x in re.findall(r'<use [^>]*x="([\d.]+)" y="[\d.]+" style="fill: var\(--series', svg)]

    near, far = places([100, 103]), places([100, 1000])
    assert len(near) == len(far) == 2
    assert abs(near[1] - near[0]) < 15 < abs(far[1] - far[0])
