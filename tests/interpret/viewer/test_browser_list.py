"""Lists, addresses and notes of the viewer in a real Chromium without a window."""

import json

import numpy as np
import pytest
from helpers.browser import CHROMIUM, DRIVER, NAME, Page
from helpers.viewer_boards import HOSTILE, board, sample

from saejax.interpret.evidence import Label
from saejax.interpret.viewer import write_viewer

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no Chromium with its chromedriver on the path"
)
NO_STORAGE = """Object.defineProperty(window, 'localStorage', {
    get() { throw new DOMException('denied', 'SecurityError'); } });"""
LONG_TASKS = """window.tasks = [];
new PerformanceObserver((list) => tasks.push(...list.getEntries().map((e) => e.duration)))
.observe({ type: 'longtask', buffered: true });"""


# ------------------------------------------------------------------------------------- the list


def test_the_list_sorts_by_every_column_both_ways(page, boards):
    page.open(f"{NAME}.html")
    made = boards[0]
    columns = {
        "density": made.firings,
        "highest": made.highest,
        "mean": made.mean,
        "number": np.arange(300),
        "selectivity": made.selectivity,
    }
    for name, values in columns.items():
        page.choose("#sort", name)
        up = "ascending" in page.text("#direction")
        assert up == (name == "number")
        for ascending in (up, not up):
            assert ("ascending" in page.text("#direction")) == ascending
            keys = values if ascending else -values
            # NaN stands last either way; equal ones by number.
            expected = np.lexsort([np.arange(300), keys])
            listed = page.listed()
            assert listed == expected[: len(listed)].tolist()
            page.click("#direction")
    page.choose("#sort", "label")
    assert page.listed()[:4] == [7, 9, 8, 0]


def test_the_list_shows_only_what_a_filter_lets_through(page):
    page.open(f"{NAME}.html")
    page.choose("#sort", "number")
    expected = {"dead": [3, 5], "labelled": [7, 9], "polysemantic": [8], "with a note": []}
    for name, latents in expected.items():
        page.choose("#filter", name)
        assert page.listed() == latents
        assert page.text(f"#filter option[value='{name}']") == f"{name} ({len(latents)})"
    page.choose("#filter", "alive")
    assert page.found() == 298
    assert page.listed()[:5] == [0, 1, 2, 4, 6]


def test_the_list_finds_numbers_labels_notes_and_top_tokens(page, boards):
    made = boards[0]
    page.open(f"{NAME}.html#feature=44")
    page.shows(44)
    page.keys("#note", "my Zebra")
    page.choose("#sort", "number")
    for text, latents in (
        ("capital", [9]),
        ("POLYSEM", [8]),
        ("zebra", [44]),
        ("no such text", []),
    ):
        page.search(text)
        assert page.listed() == latents
        assert page.found() == len(latents)
    page.search("#29")
    assert page.listed() == [29, *range(290, 300)]
    page.search("washing")
    token = made.sample.vocabulary.index(" Washington")
    fires = (made.sample.tokens[made.rows[:, :6]] == token) & (made.rows[:, :6] >= 0)
    hits = np.flatnonzero(fires.any(1) | (made.effects.promoted == token).any(1))
    assert page.found() == len(hits)
    assert page.listed() == hits[: len(page.listed())].tolist()
    page.search("")
    assert page.found() == 300


def test_a_press_on_the_list_opens_a_feature_and_enter_in_the_search_the_one_typed(page):
    page.open(f"{NAME}.html")
    page.choose("#sort", "number")
    page.click("#row-6")
    page.shows(6)
    assert page.one("#row-6").get_attribute("aria-selected") == "true"
    assert page.one("#list").get_attribute("aria-activedescendant") == "row-6"
    page.keys("#search", "2")
    page.keys("#search", "\ue007")
    page.shows(2)


# ------------------------------------------------------------------------------ keys and address


def test_keys_go_to_the_next_and_the_previous_but_not_while_typing(page):
    page.open(f"{NAME}.html#feature=10")
    page.shows(10)
    page.choose("#sort", "number")
    page.run("document.activeElement.blur()")
    page.keys("body", "j")
    page.shows(11)
    page.keys("body", "jj")
    page.shows(13)
    page.keys("body", "k")
    page.shows(12)
    page.keys("body", "\ue014")
    page.shows(13)
    page.keys("body", "\ue012")
    page.shows(12)
    page.keys("#list", "\ue015")
    page.shows(13)
    page.keys("body", "/")
    assert page.run("return document.activeElement.id") == "search"
    page.keys("#search", "jk/")
    assert page.run("return document.getElementById('search').value") == "jk/"
    page.keys("#search", "\ue00c")
    assert page.run("return document.activeElement.id") != "search"
    page.keys("#note", "jjkk")
    page.shows(13)
    page.search("")
    page.click("[data-step='-1']")
    page.shows(12)


def test_keys_stop_at_the_ends_of_the_list(page):
    page.open(f"{NAME}.html#feature=299")
    page.shows(299)
    page.choose("#sort", "number")
    page.run("document.activeElement.blur()")
    page.keys("body", "jj")
    page.shows(299)
    page.keys("body", "k")
    page.shows(298)


def test_the_address_goes_back_and_forward(page):
    page.open(f"{NAME}.html#feature=20")
    page.shows(20)
    link = page.one(".related a")
    other = int(link.get_attribute("href").split("=")[1])
    page.run("arguments[0].click()", link)
    page.shows(other)
    page.run("document.activeElement.blur()")
    page.choose("#sort", "number")
    page.click("#row-0")
    page.shows(0)
    page.browser.back()
    page.shows(other)
    page.browser.back()
    page.shows(20)
    page.browser.forward()
    page.shows(other)


@pytest.mark.parametrize("asked", ["feature=abc", "feature=300", "feature=-1", "feature=1.5", "x"])
def test_an_address_that_asks_for_no_feature_says_so_and_what_is_allowed(asked, page):
    page.open(f"{NAME}.html#{asked}")
    alert = page.one("[role=alert]").text
    assert asked in alert
    assert "Allowed is feature=N with N from 0 to 299." in alert
    page.run("location.hash = 'feature=1'")
    page.shows(1)


def test_links_to_another_sae_open_its_page_at_the_feature(page, boards):
    page.open(f"{NAME}.html#feature=20")
    page.shows(20)
    page.click(".elsewhere a")
    expected = boards[0].elsewhere[0].latents[20]
    page.until(lambda: page.text("#sae") == "toy_ratio-8")
    page.until(lambda: page.text(".heading h2 .number") == f"#{expected}")


def test_the_index_leads_to_every_sae_and_back_and_sorts(page):
    page.open("index.html")
    names = [NAME, "toy_ratio-8"]
    assert page.texts("main > .scroll tbody th") == names
    heading = page.all("main > .scroll thead button")
    [latents] = [button for button in heading if button.text == "latents"]
    latents.click()
    assert page.texts("main > .scroll tbody th") == names[::-1]
    latents.click()
    assert page.texts("main > .scroll tbody th") == names
    page.click("main > .scroll tbody a")
    page.until(lambda: page.text("#sae") == NAME)
    page.click(".home")
    page.until(lambda: page.text("main h1") == "a study")


# ------------------------------------------------------------------------------------------ notes


def exported(downloads, page):
    path = downloads / f"notes-{NAME}.json"
    path.unlink(missing_ok=True)
    page.click("#export")
    page.until(path.exists)
    return json.loads(path.read_text(encoding="utf-8"))


def test_notes_are_kept_in_the_browser_and_exported(page, downloads):
    page.open(f"{NAME}.html#feature=9")
    page.shows(9)
    page.click("#export")
    assert page.text("#notes-said") == "There are no notes to export."
    page.keys("#note", "cities, and <b>rivers</b>")
    assert page.text("#note-said") == "Kept in this browser."
    page.open(f"{NAME}.html#feature=44")
    page.shows(44)
    assert page.one("#note").get_property("value") == ""
    page.keys("#note", "second")
    page.open(f"{NAME}.html#feature=9")
    page.shows(9)
    assert page.one("#note").get_property("value") == "cities, and <b>rivers</b>"
    assert exported(downloads, page) == {
        "format": "saejax notes",
        "version": 1,
        "run": "a study",
        "sae": NAME,
        "notes": [
            {
                "feature": 9,
                "note": "cities, and <b>rivers</b>",
                "label": "capital cities",
                "labeller": "statistics",
            },
            {"feature": 44, "note": "second"},
        ],
    }
    page.open("toy_ratio-8.html#feature=9")
    page.until(lambda: page.text(".heading h2 .number") == "#9")
    assert page.one("#note").get_property("value") == ""
    page.open(f"{NAME}.html#feature=9")
    page.shows(9)
    page.keys("#note", "\ue009a\ue000\ue003")
    assert [n["feature"] for n in exported(downloads, page)["notes"]] == [44]


def test_notes_are_taken_over_from_a_file_and_never_overwritten(page, tmp_path):
    page.open(f"{NAME}.html#feature=9")
    page.shows(9)
    page.keys("#note", "mine")
    notes = [{"feature": 9, "note": "theirs"}, {"feature": 10, "note": HOSTILE[1]}]
    whole = {"format": "saejax notes", "version": 1, "run": "a study", "sae": NAME, "notes": notes}
    answers = {
        json.dumps(whole): "1 imported, 1 left as they are here.",
        json.dumps(whole | {"sae": "x"}): "That file was not taken: its notes are on x.",
        json.dumps(
            whole | {"notes": [{"feature": 300, "note": "x"}]}
        ): "That file was not taken: a note",
        json.dumps(whole | {"notes": [None]}): "That file was not taken: a note",
        "null": "That file was not taken: it holds no notes",
        "{": "That file was not taken: ",
    }
    for i, (content, answer) in enumerate(answers.items()):
        (tmp_path / f"{i}.json").write_text(content, encoding="utf-8")
        page.one("#file").send_keys(str(tmp_path / f"{i}.json"))
        page.until(lambda answer=answer: page.text("#notes-said").startswith(answer))
        assert page.one("#note").get_property("value") == "mine"
    page.choose("#filter", "with a note")
    assert sorted(page.listed()) == [9, 10]


def test_a_browser_that_keeps_nothing_says_so_and_still_exports(page, downloads):
    command = "Page.addScriptToEvaluateOnNewDocument"
    script = page.browser.execute_cdp_cmd(command, {"source": NO_STORAGE})
    try:
        page.open(f"{NAME}.html#feature=9")
        page.shows(9)
        assert "does not keep notes here (SecurityError)" in page.text("#note-said")
        page.keys("#note", "lost else")
        assert "Export them" in page.text("#note-said")
        assert [n["note"] for n in exported(downloads, page)["notes"]] == ["lost else"]
    finally:
        page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


# --------------------------------------------------------------------------------- many features


def test_a_page_of_25000_features_opens_scrolls_and_searches_without_a_stall(chromium, tmp_path):
    labels = {i: Label(f"label {i}", "statistics") for i in range(0, 25_000, 100)}
    made = board(NAME, 25_000, text=sample(20_000), slots=(3, 2, 1), around=10, labels=labels)
    write_viewer(tmp_path / "v", [made], title="many", dead_threshold=0.07)
    page = Page(chromium, tmp_path / "v")
    script = chromium.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": LONG_TASKS}
    )
    try:
        page.open(f"{NAME}.html#feature=24999")
        page.shows(24_999)
        assert page.found() == 25_000
        page.choose("#sort", "number")
        assert page.run("return document.getElementById('list').scrollTop") == 0
        assert 0 < len(page.listed()) < 60
        page.run("document.getElementById('list').scrollTop = 1e9")
        page.until(lambda: 24_999 in page.listed())
        assert len(page.listed()) < 60
        for text, n in (("k", None), ("24", 1111), ("label 24", 11), ("", 25_000)):
            page.search(text)
            assert n is None or page.found() >= n
        page.run("location.hash = 'feature=12345'")
        page.shows(12_345)
        # A tenth of a second on a desk; machines that test are slow and busy.
        assert max(page.run("return tasks"), default=0) < 1000
        assert chromium.get_log("browser") == []
    finally:
        chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_narrow_window_has_the_list_behind_a_button(page):
    metrics = {"width": 420, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.open(f"{NAME}.html#feature=9")
        page.shows(9)
        assert not page.one("#side").is_displayed()
        assert page.run("return document.documentElement.scrollWidth") <= 420
        page.click("#show-list")
        assert page.one("#side").is_displayed()
        page.choose("#filter", "dead")
        page.click("#row-3")
        page.shows(3)
        assert not page.one("#side").is_displayed()
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
