"""The gallery, its server and the README's table."""

import subprocess
import sys
import threading
import urllib.request

import pytest

from paperworks.errors import PaperworksError
from paperworks.gallery import build_gallery, readme_table
from paperworks.gallery.site import server_of
from paperworks.lab.results import Recorded


@pytest.fixture(scope="module")
def site(plausible, tmp_path_factory):
    results = {slug: Recorded(result) for slug, result in plausible.results().items()}
    return build_gallery(plausible.papers(), results, tmp_path_factory.mktemp("site")).parent


def test_every_paper_has_a_page_and_every_measured_one_a_report(site, plausible):
    index = (site / "index.html").read_text(encoding="utf-8")
    for card in plausible.papers():
        assert f'href="{card.slug}/index.html"' in index
        page = (site / card.slug / "index.html").read_text(encoding="utf-8")
        assert (site / card.slug / "report.html").is_file() == (card.slug in plausible.results())
        assert ("not measured yet" in page) == (card.slug not in plausible.results())
    assert "3 of 4 measured" in index


def test_every_recorded_comparison_has_a_page_and_its_sentence_on_the_index(plausible, tmp_path):
    found = plausible.compared()
    index = build_gallery(plausible.papers(), {}, tmp_path, [found]).read_text(encoding="utf-8")
    assert 'href="compare-operators/darcy-parameters.html"' in index
    assert found["comparison"]["sentence"].split(",")[0] in index
    page = (tmp_path / "compare-operators" / "darcy-parameters.html").read_text(encoding="utf-8")
    assert 'href="../index.html"' in page
    assert "Models side by side" not in build_gallery(plausible.papers(), {}, tmp_path).read_text(encoding="utf-8")


def test_hostile_cards_stay_text(plausible, tmp_path):
    nasty = plausible.HOSTILE
    card = plausible.card(title=nasty, idea=nasty, claim=nasty, field=nasty, tags=[nasty], official=nasty, body=nasty)
    index = build_gallery([card], {}, tmp_path)
    for path in (index, tmp_path / card.slug / "index.html"):
        text = path.read_text(encoding="utf-8")
        assert "<script>window" not in text
        assert "<img" not in text


def test_the_server_answers_this_machine_alone_and_no_file_above_its_folder(site):
    server = server_of(site)
    assert server.server_address[0] == "127.0.0.1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with urllib.request.urlopen(f"{address}/index.html", timeout=10) as answer:
            assert answer.read() == (site / "index.html").read_bytes()
        with pytest.raises(PaperworksError, match=r"port \d+ cannot be used"):
            server_of(site, server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def test_a_folder_without_a_gallery_is_told(tmp_path):
    with pytest.raises(PaperworksError, match="build it first"):
        server_of(tmp_path)


def test_the_readme_table_is_drawn_from_the_results(plausible):
    results = plausible.results()
    table = readme_table(plausible.papers(), results)
    lines = table.splitlines()
    assert len(lines) == 2 + 4
    deeponet = lines[2]
    verdict = results["deeponet"]["verdicts"][0]
    assert f"{verdict['effect']:.3g}×" in deeponet
    assert "| 5 |" in deeponet
    assert "single\\_block" in deeponet
    assert "none; 2 undecided" in lines[3]
    assert "not measured yet" in lines[5]
    nasty = readme_table([plausible.card(title="a|b<script>\n[c](d)")], {})
    assert len(nasty.splitlines()) == 3
    assert "<script>" not in nasty
    assert "a\\|b" in nasty


def test_a_run_on_fresh_seeds_is_shown_beside_the_first(plausible, tmp_path):
    result = plausible.results()["deeponet"]
    card = next(card for card in plausible.papers() if card.slug == "deeponet")
    again = {**result, "verdicts": [{**v, "status": "not supported"} for v in result["verdicts"]]}
    again["command"] = "paperworks run deeponet --first-seed 100"
    known = {"deeponet": Recorded(result, confirmation=again)}
    assert "supported; on fresh seeds: not supported |" in readme_table([card], known)
    build_gallery([card], known, tmp_path)
    page = (tmp_path / "deeponet" / "index.html").read_text(encoding="utf-8")
    assert "Repeated on fresh seeds" in page
    assert "--first-seed 100" in page


def test_importing_the_gallery_loads_nothing_heavy():
    code = (
        "import sys, paperworks.gallery; heavy = {'torch', 'numpy', 'scipy', 'matplotlib', 'jinja2', 'markdown_it'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
