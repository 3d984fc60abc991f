"""The viewer's pages, decoded by hand: nothing is lost and nothing is markup."""

import base64
import hashlib
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.viewer_boards import HOSTILE, board, decoded, sample

from saejax.interpret.dashboard import TextSample
from saejax.interpret.viewer import write_viewer
from saejax.interpret.viewer.encoding import PER_CHUNK, quantised, shown_rows

STUDY = {"title": "a study", "dead_threshold": 0.07}


def arrays(data, layout, n):
    """A block of numbers by the layout that the page itself states."""
    found, at = {}, 0
    for name, kind, each in layout:
        # A browser reads no number that lies across the bounds of its size.
        assert at % np.dtype(kind).itemsize == 0
        found[name] = np.frombuffer(data, f"<{kind}", each * n, at).reshape(n, -1)
        at += found[name].nbytes
    assert at == len(data)
    return found


class Parsed(HTMLParser):
    """Tags, attributes and texts of a page, as a browser reads them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.scripts, self.styles = [], [], [], []
        self.within = "", {}
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.within = tag, dict(attributes)
        self.tags.append(self.within)

    def handle_endtag(self, tag):
        self.within = "", {}

    def handle_data(self, data):
        tag, attributes = self.within
        if tag == "script" and not attributes:
            self.scripts.append(data)
        elif tag == "style":
            self.styles.append(data)
        else:
            self.texts.append(data)


@pytest.fixture(scope="module")
def made():
    return board(others=[("toy_ratio-8", 20)])


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("viewer") / "v"
    small = board(
        "toy_ratio-8", 20, [(made.name, 300)], coords={"model": "toy", "ratio": 8, "l1": 0.01}
    )
    assert write_viewer(path, iter([made, small]), note="one note", **STUDY) == path / "index.html"
    return path


@pytest.fixture(scope="module")
def page(folder, made):
    return folder / f"{made.name}.html"


# ---------------------------------------------------------------------------------- what a page
# holds


def test_a_folder_has_an_index_and_a_page_for_every_sae(folder):
    assert sorted(p.name for p in folder.iterdir()) == [
        "index.html",
        "toy_ratio-4.html",
        "toy_ratio-8.html",
    ]
    assert [p.name for p in folder.parent.iterdir()] == ["v"]


def test_names_labels_and_coordinates_come_back(page, made):
    blocks = decoded(page)
    meta = json.loads(blocks["meta"])
    assert meta["name"] == "toy_ratio-4"
    assert meta["coords"] == [
        ["model", "toy"],
        ["ratio", "4"],
        ["l1", "0.01"],
        ["resample", "True"],
    ]
    assert (meta["title"], meta["note"], meta["run"]) == ("a study", "one note", "a study")
    assert meta["deadThreshold"] == 0.07
    assert (meta["latents"], meta["rows"], meta["sequences"]) == (300, 2000, 40)
    assert meta["groups"] == [
        ["strongest", 0, 6],
        ["half of the highest", 6, 10],
        ["at random", 10, 14],
    ]
    assert meta["labels"][1:] == [[8, None, "statistics"], [9, "capital cities", "statistics"]]
    assert tuple(json.loads(blocks["vocabulary"])) == made.sample.vocabulary


def test_the_numbers_of_the_list_come_back(page, made):
    blocks = decoded(page)
    found = arrays(blocks["summary"], json.loads(blocks["meta"])["layouts"]["summary"], 300)
    for name in ("firings", "highest", "mean", "selectivity", "dead"):
        np.testing.assert_array_equal(found[name][:, 0], getattr(made, name))
    assert np.isnan(found["selectivity"][3, 0])
    np.testing.assert_array_equal(found["promotes"], made.effects.promoted)
    for latent in (0, 3, 150):
        fires = [made.sample.tokens[row] for row in made.rows[latent, :6] if row >= 0]
        distinct = [t for i, t in enumerate(fires) if t not in fires[:i]]
        expected = distinct + [2**32 - 1] * (8 - len(distinct))
        assert found["firing"][latent].tolist() == expected


def details(page):
    """The columns of all chunks, joined."""
    blocks = decoded(page)
    meta = json.loads(blocks["meta"])
    parts = []
    for i in range(meta["chunks"]):
        n = min(meta["perChunk"], meta["latents"] - i * meta["perChunk"])
        parts.append(arrays(blocks[f"chunk-{i}"], meta["layouts"]["chunk"], n))
    assert f"chunk-{meta['chunks']}" not in blocks
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_the_details_of_every_latent_come_back_over_all_chunks(page, made):
    # Two whole chunks and a shorter one.
    assert 300 // PER_CHUNK == 2
    assert 300 % PER_CHUNK
    found = details(page)
    expected = {
        "rows": made.rows,
        "histogram": made.histogram,
        "promoted": made.effects.promoted,
        "gains": made.effects.gains,
        "suppressed": made.effects.suppressed,
        "losses": made.effects.losses,
        "changes": made.effects.histogram,
        "span": made.effects.span.astype(np.float32),
        "correlated": made.correlated.latents,
        "correlation": made.correlated.values,
        "neighbours": made.neighbours.latents,
        "cosine": made.neighbours.values,
        "elsewhere": made.elsewhere[0].latents[:, None],
        "mcs": made.elsewhere[0].mcs[:, None],
    }
    assert set(found) == {*expected, "fired", "around"}
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_activations_come_back_but_for_their_rounding(page, made):
    found, highest = details(page), made.highest[:, None]
    fired = made.activations[:, :, made.before]
    assert np.abs(found["fired"] / 65535 * highest - fired).max() <= 20 * 0.5 / 65535 + 1e-5
    around = made.activations.reshape(300, -1)
    # Those below one step are rounded up, else half a step is the most.
    assert np.abs(found["around"] / 255 * highest - around).max() <= 20 / 255
    np.testing.assert_array_equal(found["around"] > 0, around > 0)


def test_the_tokens_of_every_context_come_back_from_the_rows_that_are_kept(page, made):
    blocks = decoded(page)
    meta = json.loads(blocks["meta"])
    parts, at = {}, 0
    for name, kind, length in meta["sample"]:
        parts[name] = np.frombuffer(blocks["sample"], f"<{kind}", length, at)
        at += parts[name].nbytes
    assert at == len(blocks["sample"])
    token_of, behind = {}, 0
    for start, length in parts["runs"].reshape(-1, 2).tolist():
        for i in range(length):
            token_of[start + i] = int(parts["tokens"][behind + i])
        behind += length
    assert behind == len(parts["tokens"])
    np.testing.assert_array_equal(parts["bounds"], made.sample.bounds)
    for row in np.unique(made.rows[made.rows >= 0]).tolist():
        sequence = row // 50
        for near in range(max(row - 5, 50 * sequence), min(row + 6, 50 * sequence + 50)):
            assert token_of[near] == made.sample.tokens[near]


@pytest.mark.parametrize(
    ("at", "runs"),
    [
        # Cut where a sequence ends, and where the next begins; contexts that meet are one run.
        ([8], [[3, 7]]),
        ([12], [[10, 8]]),
        ([12, 8], [[3, 15]]),
        ([50, 53, 8], [[3, 7], [45, 14]]),
        ([0, 99], [[0, 6], [94, 6]]),
    ],
)
def test_only_rows_that_a_context_shows_are_kept(at, runs):
    text = TextSample(np.zeros(100, int), np.array([0, 10, 100]), ("a",))
    rows = np.full((12, 14), -1, np.int32)
    rows[range(len(at)), range(len(at))] = at
    found, kept = shown_rows(board(d_sae=12, text=text, rows=rows, around=5))
    assert found.tolist() == runs
    assert np.flatnonzero(kept).tolist() == [row for a, n in runs for row in range(a, a + n)]


def test_an_activation_above_zero_is_one_step_at_least():
    highest = np.array([10.0, 0.0], np.float32)
    activations = np.array([[0.0, 1e-6, 5.0, 9.99, 10.0, 10.01], [0.0] * 6], np.float32)
    found = quantised(activations, highest, 255)
    # 127.5 goes to the even side, 254.745 to 255.
    assert found.tolist() == [[0, 1, 128, 255, 255, 255], [0] * 6]


def test_numbers_are_where_a_browser_can_read_them_for_odd_numbers_of_latents_too(tmp_path):
    write_viewer(tmp_path / "v", [board(d_sae=13, slots=(3, 1, 1), bins=7)], **STUDY)
    found = details(tmp_path / "v" / "toy_ratio-4.html")
    assert found["around"].shape == (13, 5 * 11)
    blocks = decoded(tmp_path / "v" / "toy_ratio-4.html")
    arrays(blocks["summary"], json.loads(blocks["meta"])["layouts"]["summary"], 13)


def test_tokens_of_a_large_vocabulary_are_kept_whole(tmp_path):
    text = sample()
    large = text._replace(tokens=text.tokens + 70_000, vocabulary=("x",) * 71_000)
    write_viewer(tmp_path / "v", [board(d_sae=12, text=large)], **STUDY)
    blocks = decoded(tmp_path / "v" / "toy_ratio-4.html")
    [kind] = [k for name, k, _ in json.loads(blocks["meta"])["sample"] if name == "tokens"]
    assert kind == "u4"


# --------------------------------------------------------------------------------- nothing is
# markup


def test_nothing_of_a_text_is_in_the_page_but_as_data(page):
    text = page.read_text(encoding="utf-8")
    for trace in ("hacked", "onerror", "__proto__", "\u202e", "\0", "evil", "labeller</b>"):
        assert trace not in text


@pytest.mark.parametrize("hostile", HOSTILE[:-3])
def test_titles_notes_and_coordinates_are_escaped(hostile, tmp_path):
    made = board("plain", 12, coords={hostile: hostile, "x": 1})
    other = board("other", 12, coords={hostile: hostile + "2", "x": 2})
    write_viewer(
        tmp_path / "v", [made, other], title=hostile, note=hostile, run=hostile, dead_threshold=0
    )
    shown = hostile.encode("utf-8", "replace").decode("utf-8")
    index = Parsed(tmp_path / "v" / "index.html")
    assert {tag for tag, _ in index.tags} <= {
        "html",
        "head",
        "meta",
        "link",
        "title",
        "style",
        "body",
        "main",
        "h1",
        "h2",
        "p",
        "div",
        "figure",
        "figcaption",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "button",
        "a",
        "script",
    }
    assert len(index.scripts) == 1
    assert "".join(index.texts).count(shown.strip("\n")) >= 5
    for name in ("index", "plain", "other"):
        parsed = Parsed(tmp_path / "v" / f"{name}.html")
        assert not [a for _, attributes in parsed.tags for a in attributes if a.startswith("on")]


def test_a_page_allows_its_own_script_and_style_alone_and_no_network(folder):
    for page in folder.iterdir():
        parsed = Parsed(page)
        [policy] = [
            a["content"]
            for tag, a in parsed.tags
            if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
        ]

        def digest(text):
            return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

        assert policy.split("; ") == [
            "default-src 'none'",
            f"script-src 'sha256-{digest(''.join(parsed.scripts))}'",
            f"style-src 'sha256-{digest(''.join(parsed.styles))}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
        # The policy comes before anything that it is about.
        order = [
            tag for tag, a in parsed.tags if tag in ("style", "script", "link") or "http-equiv" in a
        ]
        assert order[0] == "meta"
        assert not [a for tag, a in parsed.tags if "src" in a]
        links = {a["href"] for _, a in parsed.tags if "href" in a}
        assert links <= {"data:,", *(p.name for p in folder.iterdir())}


def test_scripts_make_no_markup_and_run_no_text(page):
    [script] = Parsed(page).scripts
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "new Function",
        "setAttribute('style'",
        "fetch(",
        "XMLHttpRequest",
        "import(",
    ):
        assert way not in script
    assert "</" not in script
