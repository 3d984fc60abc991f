"""The page of the GPT-2 study and its pictures, on workdirs that are made up."""

import csv
import json
import re
from itertools import product

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from saejax.core.files import append_rows, read_rows, write_arrays, write_text
from saejax.experiments.gpt2 import figures as gpt2_figures
from saejax.experiments.gpt2 import page as gpt2
from saejax.experiments.gpt2.claims import of_gpt2
from saejax.experiments.gpt2.published import GPT2, GPT2_EXPANSION
from saejax.report.page import Page
from saejax.results.workdir import write_run

pytestmark = pytest.mark.filterwarnings("error")
nan = np.nan
HOSTILE = (
    "<script>alert(1)</script>",
    "cost $5 or $x_{1$ %",
    "a\x00b\u202e\ud83d",
    "POLYSEMANTIC",
    "x" * 99,
)
STEPS, EVERY = (10, 20, 30), 12
N_LABELLED = 4


def block(n, seed=0):
    """Correlations of n latents of which the even and the odd ones belong together."""
    same = np.arange(n)[:, None] % 2 == np.arange(n) % 2
    noise = np.random.default_rng(seed).uniform(-0.05, 0.05, (n, n))
    return np.where(np.eye(n, dtype=bool), 1.0, np.where(same, 0.8, -0.3) + (noise + noise.T) / 2)


def dead_share(way, ratio, k, i):
    return (
        {"off": 0.5, "on": 0.2, "anthropic": 0.1, "ghost": 0.3}[way] + 0.01 * ratio + k + 0.02 * i
    )


def make(
    path,
    expansions=(1.0, 2.0),
    l1=(0.01, 0.1),
    ways=("off", "on", "ghost"),
    seeds=(0, 1),
    labellers=("offline", "a/model"),
    n_labelled=N_LABELLED,
    frozen=False,
    pretrained=False,
    viewer=True,
    texts=("theme #",),
    d_in=8,
):
    """A workdir as the study leaves it, of made-up numbers."""
    tables = {name: [] for name in ("cells", "rates", "agreement", "labels")}
    sizes = [round(d_in * ratio) for ratio in expansions]
    shape = (len(STEPS), 1, len(seeds), len(expansions), len(l1), 1, len(ways))
    counts = np.zeros(shape)
    arrays = {"steps": np.array(STEPS)}
    for (i, seed), (j, ratio), (m, k), (n, way) in product(
        *map(enumerate, (seeds, expansions, l1, ways))
    ):
        at = {"l1": k, "ratio": ratio, "resample": way, "seed": seed}
        head, share = {**at, "d_sae": sizes[j]}, dead_share(way, ratio, k, i)
        numbers = {
            "dead": share,
            "dead_on_sample": 0.1,
            "fires_rarely": 0.2,
            "median_density": 0.01,
            "fvu": 0.3 + 0.01 * i,
            "l0": 5.0,
            "mse": 0.1,
            "loss": 4.5,
            "recovered_zero": 0.9,
            "recovered_mean": 0.7 + 0.02 * i,
            "within": 0.2,
            "across": -0.1,
        }
        tables["cells"].append(head | (dict.fromkeys(numbers, nan) if frozen else numbers))
        counts[:, 0, i, j, m, 0, n] = (
            nan if frozen else sizes[j] * share * np.array([0.5, 1.5, 1.0])
        )
        here = 0 if frozen else n_labelled
        name = f"{ratio:g}x_l1-{k:g}_{way}_seed-{seed}"
        arrays |= {f"correlation/{name}": block(here), f"labelled/{name}": 3 * np.arange(here)}
        for which, labeller in enumerate(labellers):
            rate = 0.5 + 0.1 * i + 0.05 * which if here else nan
            ends = {"rate": rate, "rate_from": rate - 0.2, "rate_to": rate + 0.1}
            tables["rates"].append({**head, "labeller": labeller, "judged": here, **ends})
            for place in range(here):
                text = texts[place % len(texts)].replace("#", str(place))
                tables["labels"].append(
                    {
                        **head,
                        "labeller": labeller,
                        "latent": 3 * place,
                        "half": "top" if place < here / 2 else "bottom",
                        "selectivity": 1 / (place + 1),
                        "firings": 99,
                        "highest": 2.5,
                        "label": f"{text} by {labeller}",
                    }
                )
        if len(labellers) == 2 and here:
            tables["agreement"].append(
                {**head, "labellers": "both", "judged": here, "same": 0.7, "kappa": nan}
            )
    path.mkdir(parents=True)
    (path / "analysis").mkdir()
    write_arrays(path / "analysis.npz", arrays | {"history/dead_latents": counts})
    for name, rows in tables.items():
        append_rows(path / "analysis" / f"{name}.jsonl", rows)
    append_rows(path / "claims.jsonl", of_gpt2(tables))
    write_text(path / "config.flags", "--seeds=0,1\n")
    if viewer:
        (path / "viewer").mkdir()
        write_text(path / "viewer" / "index.html", "here")
    run = run_of(expansions, l1, ways, seeds, labellers, sizes, d_in, pretrained)
    write_run(path, run, finished=True)
    return path


def run_of(expansions, l1, ways, seeds, labellers, sizes, d_in, pretrained):
    revived = {"every": EVERY, "window": None, "threshold": 0.07, "bias": -0.01, "ghost_after": 5}
    lm = {"config": {"n_layers": 6, "d_model": d_in}, "parameters": 21456, "unigram_entropy": 6.5}
    training = [
        {"step": s, "train_loss": 6 - s / 9, "validation_loss": 6 - s / 10} for s in (5, 10)
    ]
    if pretrained:
        lm |= {
            "pretrained": {"name": "owner/<gpt2>", "revision": "abc", "dtype": "float32"},
            "rows": [],
        }
    else:
        lm |= {"settings": {"steps": 15}, "rows": training}
    return {
        "study": {
            "name": "gpt2",
            "dead_threshold": 0.07,
            "sample_tokens": 4096,
            "n_labelled": 2,
            "least_firings": 10,
        },
        "hook": "blocks.3.hook_resid_pre",
        "tokens_looked_at": 4099,
        "d_in": d_in,
        "d_sae": sizes,
        "coords": {"l1": [*l1], "expansion": [*expansions], "resample": [*ways], "seed": [*seeds]},
        "corpus": {
            "source": {"type": "standard <library>"},
            "text_megabytes": 8.25,
            "tokens": {"train": 20000, "validation": 2000},
        },
        "lm": lm,
        "packing": {"context": 16, "bos": 0, "drop_first": True},
        "store": {"rows": 10000, "dtype": "float16", "checksum": "x"},
        "sweep": {
            "steps": 30,
            "batch_size": 64,
            "eval_batches": 4,
            "lr": 0.01,
            "resample": revived,
        },
        "losses": {"clean": 4.37, "zero": 5.5, "mean": 5.0},
        "device": "cpu",
        "versions": {"jax": "1"},
        "labellers": [{"labeller": name} for name in labellers],
        "stages": [
            {"stage": n, "reused": n == "text", "seconds": 1.5} for n in ("text", "analysis")
        ],
    }


def drawn(path):
    """Text of the page and its figures by name, laid out but not written."""
    figures = {}

    def keep(page, name, caption, figure):
        figure.draw_without_rendering()
        figures[name] = figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Page, "figure", keep)
        return gpt2.build(path).write().read_text(encoding="utf-8"), figures


def table(path, name):
    with (path / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def lines(ax, **style):
    """Lines of a panel, by label."""
    return {
        line.get_label(): line for line in ax.lines if not str(line.get_label()).startswith("_")
    }


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


# ---------------------------------------------------------------------------------------- its
# figures


def test_dead_latents_over_expansions_are_seeds_and_their_means(page, small):
    axes = page[1]["dead"].axes
    assert [ax.get_title() for ax in axes] == ["L1 0.01", "L1 0.1"]
    rows = read_rows(small / "analysis" / "cells.jsonl")
    for ax, k in zip(axes, (0.01, 0.1), strict=True):
        assert [t.get_text() for t in ax.get_xticklabels()] == ["1x", "2x"]
        assert list(lines(ax)) == ["off", "on", "ghost"]
        for way, line in lines(ax).items():
            own = [
                [
                    100 * r["dead"]
                    for r in rows
                    if (r["l1"], r["resample"], r["seed"]) == (k, way, seed)
                ]
                for seed in (0, 1)
            ]
            np.testing.assert_allclose(line.get_ydata(), np.mean(own, 0))
            dots = [
                d.get_ydata()
                for d in ax.lines
                if d.get_marker() == "o" and d.get_color() == line.get_color()
            ]
            np.testing.assert_allclose(dots, own)
    # Each way has a colour of its own.
    assert len({to_hex(line.get_color()) for line in lines(axes[0]).values()}) == 3


@pytest.mark.parametrize("expansions", [GPT2_EXPANSION, (4.0, 8.0)])
def test_the_texts_numbers_are_dashed_where_they_are_of_the_same_expansions(tmp_path, expansions):
    path = make(tmp_path / "run", expansions, l1=(0.0001, 0.3), ways=("on", "off"), seeds=(0,))
    _, figures = drawn(path)
    for name, what in (("dead", "dead"), ("monosemantic_offline", "monosemantic")):
        low, high = figures[name].axes
        got = {k: v for k, v in lines(low).items() if "published" in k}
        assert not any("published" in k for k in lines(high))
        if expansions != GPT2_EXPANSION:
            assert not got
            continue
        assert {*got} == {"on, published (GPT-2)", "off, published (GPT-2)"}
        for way in ("on", "off"):
            line = got[f"{way}, published (GPT-2)"]
            np.testing.assert_allclose(line.get_ydata(), GPT2[what][way][0.0001])
            assert line.get_linestyle() == "--"
            assert line.get_color() == lines(low)[way].get_color()


def test_dead_latents_over_training_are_shares_of_each_width(page):
    figure = page[1]["dead_over_training"]
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["L1 0.01, 1x", "L1 0.01, 2x", "L1 0.1, 1x", "L1 0.1, 2x"]
    for ax, (k, ratio) in zip(figure.axes, product((0.01, 0.1), (1.0, 2.0)), strict=True):
        assert list(lines(ax)) == ["off", "on", "ghost"]
        for way, line in lines(ax).items():
            share = np.mean([dead_share(way, ratio, k, i) for i in (0, 1)])
            np.testing.assert_allclose(line.get_xdata(), STEPS)
            np.testing.assert_allclose(line.get_ydata(), 100 * share * np.array([0.5, 1.5, 1]))
        # Resampling at 12 and 24 of 30 steps.
        marks = [line.get_xdata()[0] for line in ax.lines if line.get_color() == "0.85"]
        assert marks == [12, 24]


def test_rates_and_losses_have_a_picture_each(page):
    axes = page[1]["monosemantic_a-model"].axes
    np.testing.assert_allclose(lines(axes[0])["on"].get_ydata(), [60, 60])
    np.testing.assert_allclose(lines(page[1]["fvu"].axes[1])["off"].get_ydata(), 0.305)
    np.testing.assert_allclose(lines(page[1]["recovered_mean"].axes[1])["off"].get_ydata(), 0.71)


def test_the_maps_are_of_off_and_on_at_every_l1(page):
    titles = [page[1][f"correlation_{i}"].axes[0].get_title().split("\n")[0] for i in range(4)]
    assert titles == [
        f"1x, L1 {k}, resample {way}, seed 0" for k in (0.01, 0.1) for way in ("off", "on")
    ]


def test_a_map_shows_every_correlation_at_the_place_of_its_names(page, small):
    ax = page[1]["correlation_0"].axes[0]
    names = [t.get_text() for t in ax.get_yticklabels()]
    latents_shown = [int(name.split(":")[0]) // 3 for name in names]
    assert names[0] == f"{3 * latents_shown[0]}: theme {latents_shown[0]} by a/model"
    # Latents that belong together stand together.
    assert np.count_nonzero(np.diff(np.array(latents_shown) % 2)) == 1
    with np.load(small / "analysis.npz") as file:
        correlation = file["correlation/1x_l1-0.01_off_seed-0"]
    expected = correlation[np.ix_(latents_shown, latents_shown)]
    np.testing.assert_allclose(ax.images[0].get_array(), expected)
    # The two of high selectivity are 0 and 1.
    colours = {i: t.get_color() for i, t in zip(latents_shown, ax.get_yticklabels(), strict=True)}
    assert colours == {0: "tab:blue", 1: "tab:blue", 2: "tab:orange", 3: "tab:orange"}
    # The scale is that of what is off the diagonal.
    off = np.abs(expected[~np.eye(4, dtype=bool)]).max()
    assert ax.images[0].get_clim() == pytest.approx((-off, off))


@pytest.mark.parametrize("n", [4, 9, 30])
def test_planted_blocks_stand_together(n):
    order = gpt2_figures.cluster_order(block(n, seed=n))
    assert sorted(order) == [*range(n)]
    assert np.count_nonzero(np.diff(order % 2)) == 1


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_an_order_is_a_permutation_of_whatever_it_is_of(n):
    rng = np.random.default_rng(n)
    alike, opposite = np.ones((n, n)), 2 * np.eye(n) - 1
    for correlation in (rng.uniform(-1, 1, (n, n)), np.zeros((n, n)), np.eye(n), alike, opposite):
        before = correlation.copy()
        assert sorted(gpt2_figures.cluster_order(correlation)) == [*range(n)]
        np.testing.assert_array_equal(correlation, before)


def test_a_map_of_two_uncorrelated_latents_has_a_scale():
    ax = gpt2_figures.correlation_map(np.eye(2), ["a", "b"], [True, False], "t").axes[0]
    assert ax.images[0].get_clim() == (-0.05, 0.05)
