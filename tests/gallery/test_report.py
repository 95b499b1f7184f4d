"""The report: everything behind an answer is on the page, and nothing on it can run."""

import base64
import copy
import json
import re
from html.parser import HTMLParser

import pytest

from paperworks.errors import PaperworksError
from paperworks.gallery import write_report
from paperworks.gallery.answer import controls_sentence, headlines_sentence, overall
from paperworks.gallery.report import _places, _trade_off, claim_view, view


class Page(HTMLParser):
    """Counts elements and collects text and addresses."""

    def __init__(self, text):
        super().__init__()
        self.names, self.addresses, self.links, self.events, self.words, self.open = [], [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        found = [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action", "data")]
        (self.links if tag == "a" else self.addresses).extend(found)
        self.events += [name for name, _ in attrs if name.startswith("on")]
        if tag in ("style", "script"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def written(result, card, tmp_path):
    path = write_report(result, card, tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.names.count("script") == 1
    assert not page.events
    for address in page.addresses:
        assert address.startswith(("#", "data:")), address
    for link in page.links:
        assert link.startswith(("#", "data:application/json", "http://", "https://")), link
    assert not re.search(r"@import|url\((?!#)", text)
    return text, page


@pytest.fixture(scope="module")
def whole(plausible):
    return plausible.result()


def test_the_report_holds_every_part(plausible, whole, tmp_path):
    _, page = written(whole, plausible.card(), tmp_path)
    text = page.text
    headings = (
        *("Read before you believe it", "Every claim", "The paper’s number beside ours", "Every seed"),
        *("Learning curves", "Fair play", "Equal tuning", "Pictures", "Data and settings", "Repeat it"),
    )
    for heading in headings:
        assert heading in text
    for verdict in whole["verdicts"]:
        assert verdict["claim"] in text
        assert verdict["sentence"] in text
    assert "about 10 times lower (Figure 3)" in text
    assert "50,000 steps" in text
    assert whole["command"] in text
    assert "2.13.0" in text
    assert "fnn: lr=0.0003 is the smallest of the grid" in text
    assert "torch flop counter" in text
    assert "needs the data set" in text
    assert "fnn_time is fnn with its steps set so that it trains as long as deeponet" in text


def test_the_download_is_the_result(plausible, whole, tmp_path):
    _, page = written(whole, plausible.card(), tmp_path)
    link = next(a for a in page.links if a.startswith("data:application/json;base64,"))
    assert json.loads(base64.b64decode(link.split(",", 1)[1])) == whole


def test_the_same_result_gives_the_same_page(plausible, whole, tmp_path):
    first = write_report(whole, plausible.card(), tmp_path / "a.html").read_bytes()
    assert write_report(whole, plausible.card(), tmp_path / "b.html").read_bytes() == first


def test_all_rows_are_in_the_table(whole):
    table = view(whole, None)["table"]
    assert table["total"] == len(table["rows"]) == sum(len(trial["rows"]) for trial in whole["trials"])


def test_what_is_unequal_is_marked_where_a_claim_needs_it_equal(whole):
    fair = view(whole, None)["studies"][0]["fair"]
    place = [column["name"] for column in fair["columns"]].index("parameters")
    marks = {row["arm"]: row["cells"][place]["unequal"] for row in fair["rows"]}
    assert marks == {"deeponet": "", "fnn": "", "fnn_time": "", "untrained": "deeponet"}
    operations = [column["name"] for column in fair["columns"]].index("operations")
    assert not any(row["cells"][operations]["unequal"] for row in fair["rows"])  # no claim asks for it


def test_an_unfair_claim_names_only_what_is_unequal(whole):
    costs = {"parameters": {"deeponet": 100.0, "fnn": 104.0}, "seconds": {"deeponet": 1.0, "fnn": 2.0}}
    unfair = {**whole["verdicts"][0], "fair": False, "equal": ["parameters", "seconds"], "costs": costs}
    assert claim_view(unfair)["unequal"] == ["seconds"]
    assert claim_view({**unfair, "fair": True})["unequal"] == []


def test_the_answer_is_that_of_the_weakest_headline():
    def claim(kind, status):
        return {"kind": kind, "status": status, "claim": f"{kind} {status}"}

    assert overall([]) is None
    chosen = overall(
        [claim("headline", "supported"), claim("headline", "not supported"), claim("control", "supported")]
    )
    assert chosen["status"] == "not supported"
    assert overall([claim("headline", "supported"), claim("control", "not supported")])["status"] == "supported"
    assert overall([claim("headline", "supported"), claim("headline", "inconclusive")])["status"] == "inconclusive"
    told = controls_sentence([claim("control", "not supported"), claim("control", "inconclusive")])
    assert told == "It fails the control “control not supported”; the control “control inconclusive” is undecided."
    many = controls_sentence([claim("control", "inconclusive")] * 2 + [claim("control", "not supported")] * 3)
    assert many == (
        "It fails 3 controls, among them “control not supported”; "
        "the controls “control inconclusive” and “control inconclusive” are undecided."
    )
    both = [claim("control", "not supported") | {"study": "one"}, claim("control", "supported") | {"study": "two"}]
    assert controls_sentence(both) == "It fails the control “one: control not supported”."
    assert controls_sentence([claim("control", "supported")]) == "The control holds."
    assert controls_sentence([claim("headline", "supported")]) == "No control was measured."


def test_hostile_names_and_values_stay_text(plausible, tmp_path):
    text, page = written(plausible.hostile(), plausible.card(title=plausible.HOSTILE, body=plausible.HOSTILE), tmp_path)
    assert "<script>window" not in text
    assert "img" not in page.names
    assert "window.broken=1" in page.text


def test_a_card_cannot_bring_code_or_pictures_from_elsewhere(plausible, whole, tmp_path):
    body = "## Read before you believe it\n\n<b onclick=x>y</b> ![p](http://a.b/c.png) [l](javascript:alert(1))\n"
    text, page = written(whole, plausible.card(body=body), tmp_path)
    assert "&lt;b onclick=x&gt;" in text
    assert "img" not in page.names
    assert not any("javascript" in link for link in page.links)


def test_odd_results_render(plausible, whole, tmp_path):
    one = plausible.result(1)
    lost = plausible.result(3, lose=True, budget="smoke")
    empty = {**whole, "verdicts": [], "trials": [], "studies": [], "not_run": []}
    unrun = {**empty, "not_run": [{"study": "s", "why": "needs data"}]}
    failed = {**whole, "failures": [{"study": "s", "arm": "a", "seed": 0, "traceback": "Boom\n at line 1"}]}
    nulls = copy.deepcopy(whole)
    for trial in nulls["trials"]:
        trial |= {"parameters": None, "operations": None, "saved_bytes": None, "counter": None, "counts": {}}
        trial |= {"curves": {}, "pictures": [], "unit": None}
        for row in trial["rows"]:
            row["metrics"] = dict.fromkeys(row["metrics"])
    nulls["studies"][0]["tuning"] = None
    for verdict in nulls["verdicts"]:
        verdict |= {"effect": None, "interval": [None, None], "fair": None, "status": "inconclusive"}
    expected = {"one": (one, "1 seed"), "lost": (lost, "Smoke budget"), "unrun": (unrun, "the studies were not run"),
                "empty": (empty, "no claim was judged"), "failed": (failed, "1 trial failed"),
                "nulls": (nulls, "no value")}  # fmt: skip
    for name, (result, words) in expected.items():
        _, page = written(result, None if name == "empty" else plausible.card(), tmp_path)
        assert words in page.text, name


def test_a_card_whose_text_cannot_be_filled_in_does_not_lose_the_report(plausible, whole, tmp_path):
    _, page = written(whole, plausible.card(body="## Read before you believe it\n{{ nothing('x') }}"), tmp_path)
    assert "could not be filled in" in page.text
    assert "Every claim" in page.text


def test_forty_arms_render(plausible, tmp_path):
    _, page = written(plausible.many_arms(), plausible.card(), tmp_path)
    assert "39 comparisons" in page.text
    assert "32 others" in page.text


def test_a_path_that_cannot_be_written_is_told(plausible, whole, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PaperworksError, match="cannot be written"):
        write_report(whole, plausible.card(), tmp_path / "file" / "report.html")


def test_a_trade_off_is_drawn_from_the_rows_of_its_variants():
    rows = [
        {"variant": "curve", "cell": f"k={k}", "metrics": {"cost": 10.0 * k, "acc": 0.9 + k / 100}} for k in (1, 2, 3)
    ]
    rows += [{"variant": "point", "cell": None, "metrics": {"cost": 25.0, "acc": 0.95}}]
    trials = [{"study": "s", "arm": "curve", "seed": seed, "rows": rows} for seed in (0, 1)]
    study = {"name": "s", "trade_off": ["cost", "acc", ["curve", "point", "absent"]]}
    (chart,) = _trade_off(study, trials)
    assert "acc against cost" in chart["svg"]
    assert "curve" in chart["svg"]
    assert "point" in chart["svg"]
    assert "absent" not in chart["svg"]
    assert _trade_off({"name": "s"}, trials) == []
    assert _trade_off(study, []) == []


def test_what_studies_share_has_one_colour_on_the_page():
    page = [f"a{place}" for place in range(10)]
    assert _places(["a3", "a1"], page) == {"a3": 3, "a1": 1}
    own = _places(["a9", "a2", "a0"], page)  # the ninth and tenth of the page take what this study leaves free
    assert own == {"a9": 1, "a2": 2, "a0": 0}
    assert len(set(_places(page, page).values())) == 10
    assert _places(["x", "y"], ()) == {"x": 0, "y": 1}


def test_published_numbers_say_of_which_study_where_there_are_several(whole):
    verdict = next(v for v in whole["verdicts"] if v.get("published"))
    assert view(whole, None)["published"][0]["claim"] == verdict["claim"]
    several = {**whole, "studies": [*whole["studies"], {**whole["studies"][0], "name": "another"}]}
    assert view(several, None)["published"][0]["claim"] == f"{verdict['study']}: {verdict['claim']}"


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        (["supported"], ""),
        (["supported", "supported"], "All 2 headline claims hold; the first:"),
        (["supported", "inconclusive", "not supported"], "1 of 3 headline claims hold; one that does not:"),
    ],
)
def test_headlines_are_counted_where_there_are_several(statuses, told):
    verdicts = [{"kind": "headline", "status": status} for status in statuses]
    assert headlines_sentence([*verdicts, {"kind": "control", "status": "not supported"}]) == told
