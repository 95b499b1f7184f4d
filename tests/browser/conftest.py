"""A headless chromium, and the gallery and reports it looks at."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


@pytest.fixture(scope="session")
def plausible() -> ModuleType:
    """The generator of plausible results."""
    path = Path(__file__).parents[1] / "gallery" / "plausible.py"
    spec = importlib.util.spec_from_file_location("plausible", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def site(plausible: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built gallery, with odd reports beside it."""
    from paperworks.gallery import build_gallery, write_comparison, write_fit_report, write_report

    folder = tmp_path_factory.mktemp("site")
    build_gallery(plausible.papers(), plausible.results(), folder)
    write_report(plausible.many_arms(), plausible.card(), folder / "many.html")
    write_report(plausible.hostile(), plausible.card(title=plausible.HOSTILE), folder / "hostile.html")
    write_report(plausible.result(3, lose=True, budget="smoke"), plausible.card(), folder / "lost.html")
    write_comparison(plausible.compared(models=7, diverge=True), folder / "compare.html")
    write_comparison(plausible.compared(models=12, name=plausible.HOSTILE), folder / "hostile-compare.html")
    write_fit_report(plausible.fit_report(), plausible.card(), "my/pairs.h5", folder / "fit.html")
    return folder


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser with an empty profile for all tests."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    found, driver_found = shutil.which("chromium"), shutil.which("chromedriver")
    if not found or not driver_found:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_found))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any, site: Path) -> Iterator[Any]:
    """The browser at desktop size in light mode, with nothing stored; `open_page(name, ...)` opens one."""

    def open_page(name: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.get((site / name).as_uri())

    open_page("index.html")
    chromium.execute_script("localStorage.clear()")
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.open_page = open_page
    yield chromium
    chromium.get_log("browser")
