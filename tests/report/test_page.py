"""The page that all reports are written with, and animated GIFs."""

import base64
import gc
import importlib
import io
import re
import weakref

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from saejax import report
from saejax.core.table import Table
from saejax.experiments.toy3d import gif
from saejax.report.page import Page
from saejax.results.workdir import write_run

HOSTILE = '<img src="x">&'
ESCAPED = "&lt;img src=&quot;x&quot;&gt;&amp;"


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path, HOSTILE)


def body(page):
    text = page.write().read_text(encoding="utf-8")
    return text.partition("<body>")[2].partition("</body>")[0]


def picture():
    figure = Figure(figsize=(1, 1))
    figure.text(0.1, 0.1, "x")
    return figure


def pixels(content):
    frames, infos = [], []
    with Image.open(io.BytesIO(content)) as image:
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")))
            infos.append(dict(image.info))
    return frames, infos


# ---------------------------------------------------------------------------------------- page


def test_all_text_is_escaped(page):
    page.heading(HOSTILE)
    page.paragraph(HOSTILE)
    page.points([HOSTILE])
    page.verbatim(HOSTILE)
    page.table(Table([{HOSTILE: HOSTILE}]))
    page.figure("figure", HOSTILE, picture())
    page.gallery([("film", HOSTILE, lambda: b"GIF")])
    text = body(page)
    assert HOSTILE not in text
    # The title, five texts, two cells of the table, and twice for each picture.
    assert text.count(ESCAPED) == 1 + 4 + 2 + 2 * 2


def test_parts_stand_in_their_order(page):
    page.paragraph("one")
    page.paragraph("two", warning=True)
    page.heading("three", level=3)
    page.points(["four", "five"])
    page.verbatim("six\n  seven")
    assert body(page) == (
        f'<h1>{ESCAPED}</h1><p>one</p><p class="warn">two</p><h3>three</h3>'
        "<ul><li>four</li><li>five</li></ul><pre>six\n  seven</pre>"
    )


def test_pictures_are_embedded_and_kept(page, tmp_path):
    page.figure("one", "first", picture())
    page.gallery([("two", "second", lambda: b"GIF89a 2"), ("three", "third", lambda: b"GIF89a 3")])
    text = body(page)
    embedded = re.findall(r'<figure><img alt="(\w+)" src="data:image/(\w+);base64,([^"]+)">', text)
    assert [(alt, kind) for alt, kind, _ in embedded] == [
        ("first", "png"),
        ("second", "gif"),
        ("third", "gif"),
    ]
    kept = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    assert {*kept} == {"one.png", "two.gif", "three.gif"}
    assert [base64.b64decode(data) for *_, data in embedded] == [
        kept["one.png"],
        b"GIF89a 2",
        b"GIF89a 3",
    ]
    assert kept["one.png"].startswith(b"\x89PNG")
    assert "<figcaption>third</figcaption>" in text
    # The animations stand in one block.
    assert text.count('<div class="gallery">') == 1
    assert text.endswith("</figure></div>")


def test_a_named_table_is_kept_as_a_csv_too(page, tmp_path):
    table = Table([{"a": 1, "b": 0.123456789}, {"a": 2, "b": None}])
    page.table(table)
    page.table(table, "shown", words=True, scroll=False)
    page.keep_table(table, "hidden")
    text = body(page)
    html = table.to_html()
    assert text.endswith(
        f'<div class="scroll">{html}</div><div class="scroll words whole">{html}</div>'
    )
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {"shown.csv", "hidden.csv"}
    for name in ("shown", "hidden"):
        assert (tmp_path / "tables" / f"{name}.csv").read_text() == "a,b\n1,0.1234568\n2,\n"


def test_a_page_is_one_whole_file(page, tmp_path):
    path = page.write()
    assert path == tmp_path / "report.html"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    text = path.read_text(encoding="utf-8")
    assert text.startswith('<!doctype html><html lang="en"><head><meta charset="utf-8">')
    assert text.endswith("</body></html>\n")


def test_no_file_is_touched_before_the_page_is_written(page, tmp_path):
    def draw():
        raise AssertionError("drawn before it was asked for")

    page.table(Table([{"a": 1}]), "shown")
    page.keep_table(Table([{"a": 1}]), "hidden")
    page.figure("one", "first", picture())
    page.gallery([("two", "second", draw)])
    assert [*page.figures] == ["one"]
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_to_be_had_by_name(page):
    first, second = picture(), picture()
    page.figure("one", "first", first)
    page.gallery([("film", "moving", lambda: b"GIF89a")])
    page.figure("two", "second", second)
    assert page.figures == {"one": first, "two": second}
    assert page.films() == {"film": b"GIF89a"}


def test_a_written_page_lets_go_of_its_figures(page):
    figure = picture()
    held = weakref.ref(figure)
    page.figure("one", "first", figure)
    text = body(page)
    del figure
    gc.collect()
    assert held() is None
    assert page.figures == page.films() == {}
    assert body(page) == text


def test_a_picture_that_fails_leaves_the_page_of_before(page, tmp_path):
    def draw():
        raise MemoryError

    (tmp_path / "report.html").write_text("before")
    page.gallery([("film", "", draw)])
    with pytest.raises(MemoryError):
        page.write()
    assert (tmp_path / "report.html").read_text() == "before"


STUDIES = ("baselines", "bimodality", "gpt2", "grid", "synthbench", "tokens", "toy3d")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_page(tmp_path, monkeypatch, name):
    page = importlib.import_module(f"saejax.experiments.{name}.page")
    monkeypatch.setattr(page, "build", lambda path: Page(path, f"of {name}"))
    write_run(tmp_path, {"study": {"name": name}}, finished=True)
    written = report.write(str(tmp_path))
    assert written == tmp_path / "report.html"
    assert f"<h1>of {name}</h1>" in written.read_text(encoding="utf-8")


NONE_OF_THESE = ({}, {"study": {"name": "mine"}}, {"study": {"name": "precision"}})


@pytest.mark.parametrize("run", [*NONE_OF_THESE, {"study": {"name": "../grid"}}], ids=str)
def test_any_other_run_has_the_plain_page(tmp_path, monkeypatch, run):
    monkeypatch.setattr("saejax.experiments.grid.page.build", lambda path: Page(path, "plain"))
    write_run(tmp_path, run, finished=True)
    assert "<h1>plain</h1>" in report.write(tmp_path).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------- gif

RED, BLUE, WHITE = (215, 48, 31), (33, 102, 172), (255, 255, 255)


def frame(colour, width):
    """A white picture with a bar in one colour, and a spot of every colour as films have a
    legend."""
    pixels = np.full((20, 30, 3), 255, np.uint8)
    pixels[0, :2], pixels[1, :2] = RED, BLUE
    pixels[5:15, :width] = colour
    return pixels


def test_a_gif_has_every_frame_and_rests_on_the_last():
    frames, infos = pixels(gif.encode([frame(RED, n) for n in (5, 10, 15, 20)], 0.2, 1.5))
    assert [int((f != 255).any(-1).sum()) for f in frames] == [54, 104, 154, 204]
    assert [info["duration"] for info in infos] == [200, 200, 200, 1500]
    assert infos[0]["loop"] == 0


def test_the_defaults_of_a_gif():
    _, infos = pixels(gif.encode(iter([frame(RED, 5), frame(RED, 6)])))
    assert [info["duration"] for info in infos] == [120, 3000]


def test_one_frame_is_a_gif_that_stands_still():
    frames, infos = pixels(gif.encode([frame(RED, 5)]))
    assert len(frames) == 1
    assert infos[0]["duration"] == 3000


def test_frames_keep_the_colours_that_the_last_one_hardly_has():
    frames, _ = pixels(gif.encode([frame(RED, 20), frame(BLUE, 20)]))
    for got, colour in zip(frames, (RED, BLUE), strict=True):
        assert np.abs(got[10, 5].astype(int) - colour).max() <= 8
        assert np.abs(got[10, 28].astype(int) - WHITE).max() <= 8
