"""The gallery and the report in a real browser, opened from a folder without a server."""

import base64
import json
import re

import pytest

pytestmark = pytest.mark.browser

PAGES = (
    *("index.html", "deeponet/index.html", "deeponet/report.html", "modular_addition/index.html"),
    *("crossvit/report.html", "noprop/report.html", "many.html", "hostile.html", "lost.html"),
    *("compare.html", "hostile-compare.html", "fit.html"),
)

CONTRAST = """
const rgb = (text) => {
  const c = document.createElement('canvas').getContext('2d');
  c.fillStyle = text;
  c.fillRect(0, 0, 1, 1);
  return [...c.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const linear = (v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
const ratio = (a, b) => {
  const [x, y] = [light(rgb(a)), light(rgb(b))].sort((p, q) => q - p);
  return (x + .05) / (y + .05);
};
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (!/, 0\\)$|transparent/.test(colour)) return colour;
  }
  return 'white';
};
const found = new Map();
let seen = 0;
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e), colour = e instanceof SVGElement ? style.fill : style.color;
  seen++;
  if (ratio(colour, ground(e)) < 4.5) found.set(e.outerHTML.slice(0, 90), [colour, ground(e)]);
}
const paper = getComputedStyle(document.body).backgroundColor;
for (const e of document.querySelectorAll('.chart path[style*="var(--series"], .strip .mean, .strip .interval')) {
  const style = getComputedStyle(e), filled = style.stroke === 'none' || e.matches('.mean');
  const colour = filled ? style.fill : style.stroke;
  seen++;
  if (colour !== 'none' && ratio(colour, paper) < 3) found.set(e.outerHTML.slice(0, 90), colour);
}
return [seen, [...found]];
"""
SHOWN = """
return [...document.querySelectorAll('.card')].filter(c => c.offsetParent).map(c => c.querySelector('h2').innerText);
"""
BEYOND = """
const kinds = ['p', 'h1', 'h2', 'h3', 'figure', 'button', 'input'].map((name) => `main ${name}`).join();
return [...document.querySelectorAll(kinds)]
  .filter((e) => e.offsetParent && !e.closest('.scroll, .prose, pre'))
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 120));
"""
TWICE = """
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
return ids.filter((id, place) => ids.indexOf(id) !== place);
"""
TEXTS = """
return [...document.querySelectorAll('.chart text')].map((text) => {
  const inner = text.getBoundingClientRect(), outer = text.closest('svg').getBoundingClientRect();
  return [text.textContent, inner.height, inner.left - outer.left, outer.right - inner.right];
});
"""
BOX = "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()"


def shown(browser):
    return browser.execute_script(SHOWN)


def element(browser, selector):
    return browser.find_element("css selector", selector)


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_fetched_and_nothing_is_complained_of(browser, page):
    browser.open_page(page)
    assert browser.get_log("browser") == []
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1
    assert browser.execute_script("return window.broken === undefined")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", [360, 768])
def test_no_page_scrolls_sideways(browser, page, width):
    browser.open_page(page, width, 740)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(BEYOND) == []


@pytest.mark.parametrize("page", ["deeponet/report.html", "many.html", "lost.html"])
def test_the_first_screen_has_the_answer_and_the_figure(browser, page):
    browser.open_page(page)
    for selector in ("h1", "#answer", ".verdict-line .badge", "#first-figure .forest"):
        box = browser.execute_script(BOX, selector)
        assert box["height"] > 10
        assert box["top"] >= 0
        assert box["bottom"] <= 900, (selector, box)
    told = r"diverged: deeponet in 1 of 3 seeds" if page == "lost.html" else r"95\s+% interval .* seeds"
    assert re.search(told, element(browser, "#answer").text, re.DOTALL)


def test_the_first_screen_of_a_comparison_has_the_answer_and_the_picture(browser):
    browser.open_page("compare.html")
    for selector in ("h1", "#answer", ".legend", "#pareto .chart"):
        box = browser.execute_script(BOX, selector)
        assert box["height"] > 10
        assert box["bottom"] <= 900, (selector, box)
    assert len(browser.find_elements("css selector", "#pareto .chart")) == 3


def test_search_filter_and_sort(browser):
    assert len(shown(browser)) == 4
    search = element(browser, "#search")
    search.send_keys("patches CROSS")
    assert shown(browser) == ["Two sizes of patches, joined by cross-attention"]
    assert element(browser, "#told").text == "1 of 4 papers"
    search.clear()
    search.send_keys("no such paper")
    assert shown(browser) == []
    assert "No paper fits" in element(browser, "#told").text
    from selenium.webdriver.common.keys import Keys

    search.send_keys(Keys.ESCAPE)
    assert len(shown(browser)) == 4
    button = element(browser, ".filters button[data-field=operators]")
    button.click()
    assert len(shown(browser)) == 1
    pressed = [b.get_attribute("aria-pressed") for b in browser.find_elements("css selector", ".filters button")]
    assert pressed.count("true") == 1
    assert button.get_attribute("aria-pressed") == "true"
    search.send_keys("patches")
    assert shown(browser) == []
    search.send_keys(Keys.ESCAPE)
    element(browser, ".filters button[data-field='']").click()
    firsts = {"verdict": "Learning nonlinear", "year": "Training without", "title": "Learning nonlinear"}
    for order, first in {**firsts, "field": "What a small"}.items():
        element(browser, f"#order option[value={order}]").click()
        assert shown(browser)[0].startswith(first), order
        assert len(shown(browser)) == 4


def test_everything_is_reached_by_keyboard(browser):
    from selenium.webdriver.common.keys import Keys

    press(browser, Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.get_attribute("class") == "skip"
    assert skip.rect["x"] >= 0
    press(browser, Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "main"
    press(browser, "/")
    assert browser.switch_to.active_element.get_attribute("id") == "search"
    press(browser, "/")
    assert browser.switch_to.active_element.get_attribute("value") == "/"
    press(browser, Keys.ESCAPE, Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "order"
    press(browser, Keys.TAB, Keys.TAB)
    button = browser.switch_to.active_element
    assert button.tag_name == "button"
    outline = "return getComputedStyle(document.activeElement).outlineWidth"
    assert browser.execute_script(outline) == "3px"
    press(browser, Keys.SPACE)
    assert button.get_attribute("aria-pressed") == "true"
    assert len(shown(browser)) == 1
    while browser.switch_to.active_element.tag_name != "a":
        press(browser, Keys.TAB)
    outline = "return getComputedStyle(document.activeElement.closest('.card')).outlineWidth"
    assert browser.execute_script(outline) == "3px"
    press(browser, Keys.ENTER)
    assert browser.current_url.endswith("/index.html")
    assert "modular_addition" in browser.current_url


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    "page", ["index.html", "deeponet/index.html", "deeponet/report.html", "lost.html", "compare.html", "fit.html"]
)
def test_text_and_marks_stand_out(browser, page, dark):
    browser.open_page(page, dark=dark)
    seen, faint = browser.execute_script(CONTRAST)
    assert seen > 20
    assert faint == []


def test_dark_mode_follows_the_system_and_the_button(browser):
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(ground)
    browser.open_page("index.html", dark=True)
    dark = browser.execute_script(ground)
    assert dark != light
    toggle = element(browser, "button.theme")
    assert toggle.get_attribute("aria-pressed") == "true"
    toggle.click()
    assert browser.execute_script(ground) == light
    assert toggle.get_attribute("aria-pressed") == "false"
    from selenium.webdriver.support.wait import WebDriverWait

    def remembered(_):  # the browser hands the choice to a page of another file a moment later
        browser.open_page("deeponet/report.html", dark=True)
        return browser.execute_script(ground) == light

    WebDriverWait(browser, 10).until(remembered)
    ink = "return getComputedStyle(document.querySelector('.chart text')).fill"
    before = browser.execute_script(ink)
    element(browser, "button.theme").click()
    assert browser.execute_script(ground) == dark
    assert browser.execute_script(ink) != before


def test_motion_is_reduced_on_request(browser):
    feature = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    assert browser.execute_script("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_every_chart_has_a_label_and_no_id_twice(browser):
    browser.open_page("deeponet/report.html")
    charts = browser.find_elements("css selector", "svg.chart, svg.strip")
    assert len(charts) > 15
    for chart in charts:
        assert chart.get_attribute("role") == "img"
        assert len(chart.get_attribute("aria-label")) > 10
    assert browser.execute_script(TWICE) == []


def test_text_in_charts_can_be_read_on_a_phone_and_stays_inside(browser):
    browser.open_page("deeponet/report.html", 360, 740)
    texts = browser.execute_script(TEXTS)
    assert texts
    assert min(height for text, height, *_ in texts if text.strip()) >= 10
    assert [text for text, _, left, right in texts if left < -2 or right < -2] == []


def test_a_page_works_without_scripts(browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open_page("index.html")
        assert element(browser, ".cards").is_displayed()
        assert not element(browser, ".tools").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_download_holds_the_result(browser, plausible):
    browser.open_page("deeponet/report.html")
    link = element(browser, "#download")
    assert link.get_attribute("download") == "deeponet-laptop.json"
    content = base64.b64decode(link.get_attribute("href").split(",", 1)[1])
    assert json.loads(content) == plausible.results()["deeponet"]


def test_from_the_index_to_the_report_and_back(browser):
    element(browser, ".card[data-field=operators] h2 a").click()
    browser.find_element("link text", "The full report").click()
    assert element(browser, "#answer").text
    browser.find_element("link text", "paperworks").click()
    assert len(shown(browser)) == 4
