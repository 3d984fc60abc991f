"""The viewer's index: every SAE with its numbers, and heat maps of a sweep."""

import re

import numpy as np
import pytest
from helpers.viewer_boards import board

from saejax.interpret.viewer import write_viewer
from saejax.interpret.viewer.index import shades

STUDY = {"title": "a study", "dead_threshold": 0.07}


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


# ------------------------------------------------------------------------------------------- the
# index


def test_the_index_shows_every_sae_with_its_numbers(folder):
    text = (folder / "index.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr>(.*?)</tr>", text[text.index("All SAEs") :])
    cells = [
        [re.sub("<[^>]*>", "", c) for c in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows
    ]
    assert cells[0] == [
        "SAE",
        "model",
        "ratio",
        "l1",
        "resample",
        "latents",
        "dead",
        "median density",
        "with a theme",
        "polysemantic",
    ]
    first, second = board(), board("toy_ratio-8", 20)
    medians = [f"{100 * np.median(b.firings[b.firings > 0] / 2000):.3g} %" for b in (first, second)]
    assert cells[1] == [
        "toy_ratio-4",
        "toy",
        "4",
        "0.01",
        "True",
        "300",
        "0.667 %",
        medians[0],
        "2",
        "1",
    ]
    assert cells[2] == ["toy_ratio-8", "toy", "8", "0.01", "", "20", "10 %", medians[1], "2", "1"]
    assert 'href="toy_ratio-4.html"' in rows[1]


def test_heat_maps_have_the_longest_axis_across_and_the_others_down(tmp_path):
    def cell(l1, ratio, dead):
        made = board(
            f"l1-{l1}_ratio-{ratio}", 10, coords={"l1": l1, "model": "toy", "ratio": ratio}
        )
        return made._replace(dead=np.arange(10) < dead)

    # Not in order, and one is absent.
    cells = [
        cell(0.1, 8, 9),
        cell(0.01, 4, 0),
        cell(0.1, 4, 5),
        cell(0.1, 16, 1),
        cell(0.01, 16, 3),
    ]
    write_viewer(tmp_path / "v", cells, **STUDY)
    text = (tmp_path / "v" / "index.html").read_text(encoding="utf-8")
    [dead] = re.findall(r"<figcaption>Dead latents</figcaption>.*?</figure>", text)
    rows = [re.findall(r"<t[hd].*?</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", dead)]
    shown = [[re.sub("<[^>]*>", "", c) for c in row] for row in rows]
    assert shown == [
        ["l1", "ratio 4", "ratio 8", "ratio 16"],
        ["0.01", "0 %", "", "30 %"],
        ["0.1", "50 %", "90 %", "10 %"],
    ]
    assert 'class="shade-1"' in rows[1][1]
    assert 'class="shade-9"' in rows[2][2]
    assert 'href="l1-0.1_ratio-8.html"' in rows[2][2]


def test_one_sae_has_no_heat_map_and_one_without_firings_no_median(tmp_path):
    silent = board(d_sae=12, firings=np.zeros(12, int))
    write_viewer(tmp_path / "v", [silent], **STUDY)
    text = (tmp_path / "v" / "index.html").read_text(encoding="utf-8")
    assert "<figure" not in text
    assert ">–</td>" in text
    assert "1 sparse autoencoder." in text


def test_shades_go_from_the_least_to_the_largest():
    assert shades([0.0, 0.5, 1.0, None]) == [1, 5, 9, 0]
    assert shades([2.0, 2.0]) == [0, 0]
    assert shades([None]) == [0]
