"""What the viewer refuses before it writes a file, and that nothing is overwritten."""

import weakref

import numpy as np
import pytest
from helpers.viewer_boards import board

from saejax.interpret.dashboard import Elsewhere, Group, Related
from saejax.interpret.evidence import Label
from saejax.interpret.viewer import write_viewer

STUDY = {"title": "a study", "dead_threshold": 0.07}


@pytest.fixture(scope="module")
def made():
    return board(others=[("toy_ratio-8", 20)])


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "name",
    [
        "",
        "index",
        "INDEX",
        "../x",
        "a/b",
        "a b",
        ".hidden",
        "-x",
        "é",
        "con",
        "Nul.txt",
        "x.",
        "a" * 201,
        "a\n",
        "javascript:x",
        "a#b",
        'a"b',
    ],
)
def test_names_that_are_no_file_names_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"^name: got .*, allowed: "):
        write_viewer(tmp_path / "v", [board(name, 12)], **STUDY)
    assert not list(tmp_path.iterdir())


def test_names_that_differ_in_case_alone_are_refused(tmp_path):
    with pytest.raises(ValueError, match="name: got 'A' and 'a', allowed: "):
        write_viewer(tmp_path / "v", [board("a", 12), board("A", 12)], **STUDY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("others", [[("gone", 5)], [("b", 900)]])
def test_links_to_pages_and_latents_that_do_not_exist_are_refused(others, tmp_path):
    with pytest.raises(ValueError, match=r"elsewhere of a: got latent .*, allowed: 0 to 11 of a, "):
        write_viewer(tmp_path / "v", [board("a", 12, others), board("b", 12)], **STUDY)
    assert not list(tmp_path.iterdir())


def test_a_dashboard_that_contradicts_itself_is_refused_by_name(tmp_path, unchecked):
    good = board("a", 12)
    nan, far = good.activations.copy(), good.activations.copy()
    nan[2, 1, 0], far[4, 0, 0] = np.nan, 2 * good.highest[4]
    wrong = {
        "firings": [np.zeros(0, int), good.firings * 10_000],
        "highest": [good.highest[:5], -good.highest, np.full(12, np.nan)],
        "mean": [np.full(12, np.inf), -good.mean],
        "selectivity": [good.selectivity[:, None]],
        "dead": [good.dead[:3]],
        "histogram": [good.histogram[:3], -good.histogram - 1],
        "rows": [good.rows + 2000, good.rows - 5, good.rows[:4]],
        "activations": [good.activations[:, :, 1:], nan, far, -good.activations],
        "groups": [(Group("x", 3, 99),), (Group("x", -1, 2),), (Group("x", 5, 2),)],
        "labels": [{12: Label("x", "y")}, {-1: Label("x", "y")}],
        "elsewhere": [
            (Elsewhere("a", np.zeros(12, int), np.zeros(12)),),
            (Elsewhere("../b", np.zeros(12, int), np.zeros(12)),),
            (Elsewhere("b", np.full(12, -1), np.zeros(12)),),
            (Elsewhere("b", np.zeros(3, int), np.zeros(12)),),
            (Elsewhere("b", np.zeros(12, int), np.full(12, np.nan)),),
        ],
        "correlated": [Related(np.full((12, 2), 12), np.zeros((12, 2)))],
        "neighbours": [Related(np.zeros((12, 2), int), np.full((12, 2), np.nan))],
        "sample": [
            good.sample._replace(tokens=good.sample.tokens + 64),
            good.sample._replace(tokens=good.sample.tokens[:0]),
            good.sample._replace(bounds=np.array([0, 5])),
            good.sample._replace(bounds=np.array([0, 50, 20, 2000])),
        ],
        "effects": [
            good.effects._replace(promoted=good.effects.promoted + 64),
            good.effects._replace(gains=good.effects.gains * np.nan),
            good.effects._replace(losses=good.effects.losses[:, :2]),
            good.effects._replace(span=good.effects.span[:, :1]),
            good.effects._replace(histogram=good.effects.histogram * 1000),
        ],
        "before": [-1],
    }
    for field, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"{field}[a-z_., ]*: got (.|\n)*, allowed: "):
                write_viewer(tmp_path / "v", [good._replace(**{field: value})], **STUDY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("threshold", [-1, float("nan"), "0.07", True])
def test_a_threshold_that_is_no_number_is_refused_before_anything_is_asked_for(
    threshold, tmp_path, unchecked
):
    def dashboards():
        raise AssertionError
        yield

    with pytest.raises(ValueError, match="dead_threshold: got"):
        write_viewer(tmp_path / "v", dashboards(), title="x", dead_threshold=threshold)
    assert not list(tmp_path.iterdir())


def test_no_dashboards_are_refused(tmp_path):
    with pytest.raises(ValueError, match="dashboards: got none, allowed: one or more"):
        write_viewer(tmp_path / "v", [], **STUDY)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("file")
    for name in ("v", "file"):
        with pytest.raises(FileExistsError, match="nothing is ever overwritten"):
            write_viewer(tmp_path / name, [board(d_sae=12)], **STUDY)
    assert [p.name for p in (tmp_path / "v").iterdir()] == ["mine.txt"]
    assert (tmp_path / "file").read_text() == "file"


def test_files_that_come_meanwhile_are_not_overwritten(tmp_path):
    (tmp_path / "v").mkdir()

    def dashboards():
        yield board(d_sae=12)
        (tmp_path / "v" / "mine.txt").write_text("mine")

    with pytest.raises(OSError, match="not empty"):
        write_viewer(tmp_path / "v", dashboards(), **STUDY)
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["v", "v/mine.txt"]


def test_an_empty_folder_is_taken_and_an_absent_one_made(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new" / "deep"):
        assert write_viewer(path, [board(d_sae=12)], **STUDY).is_file()


def test_a_viewer_that_fails_half_way_leaves_nothing_behind(tmp_path):
    def dashboards():
        yield board("first", 12)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_viewer(tmp_path / "v", dashboards(), **STUDY)
    assert not list(tmp_path.iterdir())


def test_dashboards_are_asked_for_one_by_one_and_none_is_kept(tmp_path):
    alive = []

    def dashboards():
        for name in ("a", "b", "c"):
            assert not [ref for ref in alive if ref() is not None]
            assert not (tmp_path / "v").exists()
            made = board(name, 12)
            alive.append(weakref.ref(made.activations))
            yield made
            del made

    write_viewer(tmp_path / "v", dashboards(), **STUDY)
    assert len(alive) == 3
