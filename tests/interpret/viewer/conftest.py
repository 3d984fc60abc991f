"""A browser with two pages of the viewer."""

import pytest
from helpers.browser import ARGUMENTS, CHROMIUM, DRIVER, NAME, Page, webdriver
from helpers.viewer_boards import board

from saejax.interpret.viewer import write_viewer


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def chromium(downloads, tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    browser.set_page_load_timeout(60)
    browser.set_script_timeout(30)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def boards():
    return [
        board(NAME, 300, [("toy_ratio-8", 20)]),
        board("toy_ratio-8", 20, [(NAME, 300)], coords={"model": "toy", "ratio": 8, "l1": 0.001}),
    ]


@pytest.fixture(scope="module")
def folder(boards, tmp_path_factory):
    path = tmp_path_factory.mktemp("viewer") / "v"
    write_viewer(path, iter(boards), title="a study", note="one note", dead_threshold=0.07)
    return path


@pytest.fixture
def page(chromium, folder):
    page = Page(chromium, folder)
    chromium.get_log("browser")
    yield page
    page.run("try { localStorage.clear() } catch {}")
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    assert page.run("return window.hacked === undefined")
