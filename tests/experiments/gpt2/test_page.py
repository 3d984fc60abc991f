"""The page of the GPT-2 study, on workdirs that are made up."""

import csv
import json
import re

import numpy as np
import pytest
from helpers.gpt2_workdir import N_LABELLED, drawn, make, nan
from scipy import stats

from saejax.experiments.gpt2 import page as gpt2
from saejax.experiments.gpt2.published import GPT2_EXPANSION
from saejax.results.workdir import write_run

pytestmark = pytest.mark.filterwarnings("error")
HOSTILE = (
    "<script>alert(1)</script>",
    "cost $5 or $x_{1$ %",
    "a\x00b\u202e\ud83d",
    "POLYSEMANTIC",
    "x" * 99,
)


def table(path, name):
    with (path / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make(tmp_path_factory.mktemp("small") / "run")


@pytest.fixture(scope="module")
def page(small):
    return drawn(small)


# ---------------------------------------------------------------------------------------- whole
# pages


def test_the_page_says_what_was_made_of_what(page):
    text, figures = page
    for part in (
        "24 dictionaries of a residual stream",
        "A language model of 6 layers with 21,456 weights",
        "10,000 activations of 8 numbers were read at blocks.3.hook_resid_pre",
        "dictionaries of 8, 16 latents",
        "latents: off, on, ghost (resampling every 12 steps, ghost gradients after 5 silent steps)",
        "2 seeds; 30 steps of 64",
        "never above 0.07",
        "never above 0.07 on the 256 held-out activations",
        "standard &lt;library&gt;",
        "4.370 nats per token as it is, 5.000 nats per token with the mean",
        "<td>packing drop_first</td><td>True</td>",
        "<td>labeller 1 labeller</td><td>offline</td>",
        "python -m saejax.experiments.gpt2",
        "--seeds=0,1",
        "What the text claims",
        "its rates are lower bounds",
        "How far the two labellers agree",
        "<h3>Monosemantic latents by a/model",
    ):
        assert part in text, part
    assert "did not finish" not in text
    assert {*figures} == {
        "dead",
        "dead_over_training",
        "recovered_mean",
        "fvu",
        "monosemantic_offline",
        "monosemantic_a-model",
        "loss",
        *(f"correlation_{i}" for i in range(4)),
    }


def test_dead_latents_stand_in_the_texts_form_beside_the_texts(page, small):
    rows = table(small, "dead")
    assert [(row["reviving"], row["l1"]) for row in rows] == [
        (way, k) for way in ("off", "on", "ghost") for k in ("0.01", "0.1")
    ]
    assert list(rows[0]) == ["reviving", "l1", "1x", "2x"]
    # 100 (0.5 + 0.02 + 0.01 + 0 or 0.02) %, standard deviation 2 / sqrt 2.
    assert rows[0]["2x"] == "54.0 % ± 1.4"
    fewer = table(small, "dead_delta")
    assert [row["reviving"] for row in fewer] == ["on", "on", "ghost", "ghost"]
    assert {row["1x"] for row in fewer[:2]} == {"30.0 % ± 0.0"}
    assert {row["2x"] for row in fewer[2:]} == {"20.0 % ± 0.0"}


def test_the_texts_tables_are_its_own_to_the_last_figure(page, small):
    published = [list(row.values()) for row in table(small, "dead_published")]
    assert published == [
        ["off", "0.01", "13.1 %", "26.3 %", "29.3 %", "35.2 %"],
        ["off", "0.0001", "15.4 %", "27.5 %", "33.4 %", "35.6 %"],
        ["on", "0.01", "4.8 %", "3.9 %", "15.7 %", "26.97 %"],
        ["on", "0.0001", "5.24 %", "4.51 %", "11.72 %", "23.43 %"],
    ]
    delta = table(small, "dead_delta_published")
    assert list(delta[0]) == ["published, GPT-2", "l1", "4x", "8x", "16x", "32x"]
    assert [list(row.values()) for row in delta] == [
        ["off less on", "0.01", "8.3 %", "22.4 %", "13.6 %", "8.23 %"],
        ["off less on", "0.0001", "10.16 %", "22.99 %", "21.68 %", "12.17 %"],
    ]
    rates = [list(row.values()) for row in table(small, "monosemantic_published")]
    assert rates == [
        ["off", "0.01", "82 %", "86 %", "84 %", "86 %"],
        ["off", "0.0001", "82 %", "82 %", "80 %", "78 %"],
        ["on", "0.01", "72 %", "78 %", "88 %", "80 %"],
        ["on", "0.0001", "80 %", "78 %", "78 %", "76 %"],
    ]
    text = page[0]
    ours, theirs = text.index("54.0 % ± 1.4"), text.index("26.97 %")
    assert 0 < theirs - ours < 2500


def test_rates_have_their_intervals_over_seeds_or_over_latents(page, small, tmp_path):
    # 0.5 and 0.6: mean 0.55, half width t(0.975, 1) 0.0707 / sqrt 2 = 12.706 x 0.05 = 0.635.
    rows = table(small, "monosemantic_offline")
    assert rows[0]["1x"] == "55 % (-9 to 119)"
    assert table(small, "monosemantic_a-model")[0]["1x"] == "60 % (-4 to 124)"
    one = make(tmp_path / "one", seeds=(3,))
    drawn(one)
    low, high = stats.binomtest(round(0.5 * N_LABELLED), N_LABELLED).proportion_ci(0.95, "wilson")
    expected = f"50 % ({100 * low:.0f} to {100 * high:.0f})"
    assert table(one, "monosemantic_offline")[0]["1x"] == expected
    assert "±" not in str(table(one, "dead"))


def test_seeds_that_agree_leave_the_doubt_of_few_latents():
    rates, judged = np.array([[0.3, nan], [0.3, 0.5], [0.3, nan]]), np.full((3, 2), 50)
    low, high = stats.binomtest(45, 150).proportion_ci(0.95, "wilson")
    alone = stats.binomtest(25, 50).proportion_ci(0.95, "wilson")
    assert gpt2._with_intervals(rates, judged) == [
        f"30 % ({100 * low:.0f} to {100 * high:.0f})",
        f"50 % ({100 * alone.low:.0f} to {100 * alone.high:.0f})",
    ]
    assert gpt2._with_intervals(np.full((2, 1), nan), np.zeros((2, 1))) == [""]


def test_what_is_kept_is_a_mean_over_seeds(page, small):
    rows = table(small, "kept")
    assert len(rows) == 12
    assert {(row["seeds"], row["recovered_mean"], row["fvu"]) for row in rows} == {
        ("2", "0.71", "0.305")
    }
    assert len(table(small, "cells")) == 24
    assert len(table(small, "labels")) == 24 * 2 * N_LABELLED


def test_the_labels_shown_are_the_last_labellers_of_high_selectivity(page):
    shown = page[0].split("Latents of highest selectivity, ")[1].split("</table>")[0]
    assert shown.startswith("1x, L1 0.01, resample off, seed 0")
    assert re.findall(r"<td>(theme .*?)</td>", shown) == [
        "theme 0 by a/model",
        "theme 1 by a/model",
    ]


@pytest.mark.parametrize("viewer", [False, True])
def test_the_viewer_is_linked_where_there_is_one(tmp_path, viewer):
    text, _ = drawn(make(tmp_path / "run", viewer=viewer, l1=(0.1,), seeds=(0,)))
    assert ('<a href="viewer/index.html">' in text) == viewer


ONE = {"l1": (0.1,), "seeds": (7,)}
SHAPES = {
    "one of all": {**ONE, "expansions": (2.0,), "ways": ("off",)},
    "no off": {**ONE, "ways": ("on", "anthropic")},
    "ghost alone": {**ONE, "ways": ("ghost",)},
    "no labels": {**ONE, "n_labelled": 0},
    "one label": {**ONE, "n_labelled": 1},
    "frozen": {"l1": (0.1,), "ways": ("off", "on"), "expansions": (1.0,), "frozen": True},
    "no labeller": {**ONE, "labellers": ()},
    "one labeller": {**ONE, "labellers": ("offline",), "ways": ("off",), "n_labelled": 50},
    "the text's expansions": {"expansions": GPT2_EXPANSION, "l1": (0.01,), "ways": ("off", "on")},
    "three seeds, five expansions": {
        "l1": (0.1,),
        "seeds": (0, 1, 2),
        "expansions": (1.0, 2, 3, 4, 5),
    },
}


@pytest.mark.parametrize("kind", SHAPES.values(), ids=SHAPES)
def test_no_page_breaks(tmp_path, kind):
    path = make(tmp_path / "run", **kind)
    text, figures = drawn(path)
    assert {"dead", "dead_over_training", "fvu", "recovered_mean", "loss"} <= {*figures}
    ways = kind.get("ways", ("off", "on", "ghost"))
    assert (path / "tables" / "dead_delta.csv").exists() == ("off" in ways and len(ways) > 1)
    assert ("less those with it" in text) == ("off" in ways and len(ways) > 1)
    maps = [name for name in figures if name.startswith("correlation")]
    few = kind.get("n_labelled", N_LABELLED) < 2 or kind.get("frozen")
    assert bool(maps) != bool(few)
    assert "nan" not in re.sub(r"<img[^>]*>", "", text).lower().replace("finance", "")
    assert ("4 SAEs were frozen as not finite" in text) == bool(kind.get("frozen"))
    if kind.get("frozen"):
        assert {row["1x"] for row in table(path, "dead")} == {""}
        assert {row["1x"] for row in table(path, "monosemantic_offline")} == {""}


def test_a_page_needs_no_other_file(tmp_path):
    path = make(tmp_path / "run", l1=(0.1,), seeds=(0,), ways=("off", "on"), viewer=False)
    text = gpt2.build(path).write().read_text(encoding="utf-8")
    kept = {p.stem for p in (path / "figures").iterdir()}
    assert re.findall(r"src=\"([^\"]{22})", text) == ["data:image/png;base64,"] * len(kept)
    assert "href" not in text


def test_text_of_a_corpus_is_neither_markup_nor_formula(tmp_path):
    path = make(
        tmp_path / "run", texts=HOSTILE[:2] + HOSTILE[3:], labellers=("offline", "<i>$m$</i>")
    )
    text, figures = drawn(path)
    for bad in ("<script>", "<i>"):
        assert bad not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; by &lt;i&gt;$m$&lt;/i&gt;" in text
    assert (path / "tables" / "monosemantic_-i--m---i-.csv").exists()
    names = [t.get_text() for t in figures["correlation_0"].axes[0].get_yticklabels()]
    assert {*names} == {
        r"0: <script>alert(1)</script> by <i>\$…",
        r"3: cost \$5 or \$x_{1\$ % by <i>\$m\$</i>",
        r"6: POLYSEMANTIC by <i>\$m\$</i>",
        f"9: {'x' * 33}…",
    }


def test_what_cannot_be_printed_is_left_out_of_pictures():
    assert gpt2._short("a\x00b\u202e\ud83dc\n") == "abc"
    assert gpt2._short("y" * 34) == "y" * 34
    assert gpt2._short("y" * 35) == "y" * 33 + "…"


def test_a_model_that_others_trained_is_named(tmp_path):
    path = make(tmp_path / "run", pretrained=True, l1=(0.1,), seeds=(0,))
    text, figures = drawn(path)
    assert "<p>owner/&lt;gpt2&gt; of 6 layers with 21,456 weights" in text
    assert "<td>revision</td><td>abc</td>" in text
    assert "loss" not in figures


def test_missing_files_leave_gaps_and_a_run_without_an_analysis_is_an_error(tmp_path):
    path = make(tmp_path / "run", l1=(0.1,), seeds=(0,))
    info = json.loads((path / "run.json").read_text())
    info["losses"] = dict.fromkeys(info["losses"])
    info["sweep"]["resample"] |= {"every": 0, "ghost_after": 0}
    info |= {"stages": [], "finished": False}
    write_run(path, info, finished=info.pop("finished"))
    for name in ("labels", "rates", "agreement"):
        (path / "analysis" / f"{name}.jsonl").unlink()
    (path / "claims.jsonl").unlink()
    text, figures = drawn(path)
    assert "This run did not finish" in text
    assert "(no resampling)" in text
    assert "not measured as it is" in text
    assert "What the text claims" not in text
    assert not [name for name in figures if name.startswith("monosemantic")]
    # Latents without labels are shown by number.
    names = [t.get_text() for t in figures["correlation_0"].axes[0].get_yticklabels()]
    assert {*names} == {"0", "3", "6", "9"}
    (path / "analysis.npz").unlink()
    with pytest.raises(ValueError, match=r"analysis\.npz: the run ended before its analysis"):
        gpt2.build(path)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        gpt2.build(tmp_path)
