"""Selection, means over seeds, best rows, dictionaries and tables of a result made by hand."""

import csv
import io
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from saejax import Params, Result
from saejax.core.table import Table
from saejax.results.axes import ABSENT, AXES

COORDS = {
    "dataset": ("uncorrelated", "<b>&"),
    "seed": (0, 5, 9),
    "ratio": (0.5, 2.0),
    "l1": (0.01, 0.1778279),
    "lr": (1e-3,),
    "resample": ("off",),
    "architecture": ("relu",),
    "k": (0,),
}
SHAPE = tuple(len(v) for v in COORDS.values())
FROZEN = (0, 1, 0, 1, 0, 0, 0, 0)  # uncorrelated, seed 5, ratio 0.5, l1 0.178
ALL_FROZEN = (1, slice(None), 1, 0, 0, 0, 0, 0)  # <b>&, every seed of ratio 2, l1 0.01
NAMES = (
    "mmcs_true_to_dict",
    "mmcs_dict_to_true",
    "mse",
    "l1_loss",
    "l0",
    "fvu",
    "dead_latents",
    "mmcs_to_next_larger",
    "learned",
    "unlearned",
    "represented",
)


def weights(index, shape=SHAPE):
    number = float(np.ravel_multi_index(index, shape))
    return Params(np.full((3, 2), number), np.zeros(2), np.full((2, 3), -number))  # pyright: ignore


def make(coords=COORDS, drop=()):
    shape = tuple(len(v) for v in coords.values())
    rng = np.random.default_rng(0)
    final = {name: rng.uniform(size=shape) for name in NAMES if name not in drop}
    if "mmcs_to_next_larger" in final:
        final["mmcs_to_next_larger"][:, :, -1] = np.nan
    frozen_at = np.full(shape, -1)
    if shape == SHAPE:
        frozen_at[FROZEN] = 17
        frozen_at[ALL_FROZEN] = 3
        final["mmcs_true_to_dict"][FROZEN] = 99.0
        final["mse"][FROZEN] = -99.0
    return Result(
        coords=coords,
        d_sae=tuple(int(8 * r) for r in coords["ratio"]),
        run={},
        steps=np.array([10, 20]),
        history={name: np.stack([a, a]) for name, a in final.items()},
        final=final | {"frozen_at": frozen_at},
        best_index=None,
        best_cosine=None,
        features=None,
        load_params=weights,
    )


@pytest.fixture(scope="module")
def result():
    return make()


# ---------------------------------------------------------------------------------------- select


def test_select_without_coordinates_is_everything(result):
    assert result.select() == tuple(tuple(range(n)) for n in SHAPE)


def test_select_takes_the_named_values(result):
    chosen = dict(zip(AXES, result.select(seed=9, ratio=2, dataset="<b>&"), strict=True))
    assert (chosen["dataset"], chosen["seed"], chosen["ratio"]) == ((1,), (2,), (1,))
    assert chosen["l1"] == (0, 1)


@pytest.mark.parametrize("wanted", [0.1778279, 0.178, 0.17766, np.float64(0.17783)])
def test_floats_may_be_off_by_a_thousandth(result, wanted):
    assert result.select(l1=wanted)[AXES.index("l1")] == (1,)


@pytest.mark.parametrize("wanted", [0.1782, 0.1774, 0.0, -0.01, float("nan")])
def test_floats_further_off_are_refused_with_the_allowed_values(result, wanted):
    with pytest.raises(ValueError, match=r"l1: got .*, allowed: 0\.01, 0\.1778279"):
        result.select(l1=wanted)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"seed": 1}, "seed: got 1, allowed: 0, 5, 9"),
        ({"dataset": "copula"}, "dataset: got 'copula', allowed: uncorrelated, <b>&"),
        ({"ratio": 4}, r"ratio: got 4, allowed: 0\.5, 2\.0"),
        ({"resample": "on"}, "resample: got 'on', allowed: off"),
        ({"width": 4}, "'width', allowed: dataset, seed, ratio, l1, lr, resample, architecture, k"),
    ],
)
def test_wrong_coordinates_are_refused_with_the_allowed_ones(result, where, message):
    with pytest.raises(ValueError, match=message):
        result.select(**where)


# ---------------------------------------------------------------------------------------- variants


@pytest.mark.parametrize(
    ("swept", "variants"),
    [
        ({}, [{}]),
        ({"lr": (1e-3, 1e-2)}, [{"lr": 1e-3}, {"lr": 1e-2}]),
        ({"resample": ("off", "on")}, [{"resample": "off"}, {"resample": "on"}]),
        (
            {"lr": (1e-3, 1e-2), "resample": ("on", "off")},
            [
                {"lr": 1e-3, "resample": "on"},
                {"lr": 1e-3, "resample": "off"},
                {"lr": 1e-2, "resample": "on"},
                {"lr": 1e-2, "resample": "off"},
            ],
        ),
    ],
)
def test_variants_combine_what_is_swept_of_lr_and_resample(swept, variants):
    assert make(COORDS | swept).variants == variants


def test_each_cell_is_of_one_variant():
    result = make(COORDS | {"lr": (1e-3, 1e-2), "resample": ("on", "off")})
    hits = np.zeros([len(v) for v in result.coords.values()])
    for where in result.variants:
        hits[np.ix_(*result.select(**where))] += 1
    assert (hits == 1).all()


# ---------------------------------------------------------------------------------------- table


def test_table_has_a_row_a_cell_with_its_own_numbers(result):
    table = result.table()
    assert len(table) == np.prod(SHAPE)
    assert table.columns == [
        "dataset",
        "ratio",
        "l1",
        "seed",
        "d_sae",
        *NAMES,
        "lr",
        "resample",
        "architecture",
        "k",
        "frozen_at",
    ]
    for row, index in zip(table, np.ndindex(*SHAPE), strict=True):
        for i, (name, values) in enumerate(COORDS.items()):
            assert row[name] == values[index[i]]
        assert row["d_sae"] == (4, 16)[index[2]]
        for name in NAMES:
            np.testing.assert_equal(row[name], result.final[name][index])
        frozen = result.final["frozen_at"][index]
        assert row["frozen_at"] == (None if frozen < 0 else frozen)


def test_table_leaves_out_what_was_not_measured():
    table = make(drop=("learned",)).table()
    assert "learned" not in table.columns
    assert "mse" in table.columns


def test_table_over_seeds_has_mean_and_deviation_of_the_cells_that_trained(result):
    table = result.table(over_seeds=True)
    assert len(table) == np.prod(SHAPE) / 3
    assert "seed" not in table.columns
    cells = product(*(range(n) for i, n in enumerate(SHAPE) if i != 1))
    for row, (d, *rest) in zip(table, cells, strict=True):
        kept = [s for s in range(3) if result.final["frozen_at"][d, s, *rest] < 0]
        assert row["frozen"] == 3 - len(kept)
        for name in ("mmcs_true_to_dict", "mse", "unlearned"):
            values = result.final[name][d, kept, *rest].astype(float)
            mean = values.mean() if kept else np.nan
            sd = values.std(ddof=1) if len(kept) > 1 else np.nan
            np.testing.assert_allclose([row[name], row[f"{name}_sd"]], [mean, sd], rtol=1e-12)


def test_values_are_empty_in_frozen_cells(result):
    values = result.values("mse")
    frozen = result.final["frozen_at"] >= 0
    assert frozen.sum() == 4
    assert np.isnan(values[frozen]).all()
    np.testing.assert_array_equal(values[~frozen], result.final["mse"][~frozen])


def test_unknown_metric_is_refused_with_the_measured_ones(result):
    for call in (result.values, result.best, result.grid, result.plot_heatmap):
        with pytest.raises(
            ValueError, match=r"metric: got 'accuracy', allowed: .*mse.*represented"
        ):
            call("accuracy")
    with pytest.raises(ValueError, match="metric: got 'frozen_at'"):
        result.values("frozen_at")


# ---------------------------------------------------------------------------------------- best


def test_best_of_one_seed_is_the_extreme_of_the_cells_that_trained(result):
    for metric, pick in (("mmcs_true_to_dict", np.nanargmax), ("mse", np.nanargmin)):
        values = np.where(result.final["frozen_at"] < 0, result.final[metric], np.nan)[:, 1]
        d, r, k, *_ = np.unravel_index(pick(values), values.shape)
        row = result.best(metric, seed=5)
        assert (row["dataset"], row["ratio"], row["l1"], row["seed"]) == (
            COORDS["dataset"][d],
            COORDS["ratio"][r],
            COORDS["l1"][k],
            5,
        )
        assert row[metric] == values[d, r, k, 0, 0, 0, 0]


def test_best_over_seeds_compares_means(result):
    for metric, pick in (("mmcs_true_to_dict", np.nanargmax), ("fvu", np.nanargmin)):
        values = np.where(result.final["frozen_at"] < 0, result.final[metric], np.nan)
        mean = np.nanmean(values[0], axis=0)[:, :, 0, 0, 0, 0]
        r, k = np.unravel_index(pick(mean), mean.shape)
        row = result.best(metric, dataset="uncorrelated")
        assert (row["dataset"], row["ratio"], row["l1"]) == (
            "uncorrelated",
            COORDS["ratio"][r],
            COORDS["l1"][k],
        )
        assert row[metric] == pytest.approx(mean[r, k], rel=1e-12)
        assert "seed" not in row


def test_best_keeps_to_the_coordinates_given(result):
    row = result.best("mse", ratio=0.5, l1=0.178, dataset="<b>&", seed=9)
    assert (row["ratio"], row["l1"], row["dataset"], row["seed"]) == (0.5, 0.1778279, "<b>&", 9)


def test_best_without_any_value_is_an_error(result):
    with pytest.raises(ValueError, match="mse: no cell in question has a value"):
        result.best("mse", dataset="<b>&", ratio=2, l1=0.01)
    with pytest.raises(ValueError, match="mmcs_to_next_larger: no cell in question has a value"):
        result.best("mmcs_to_next_larger", ratio=2)


# ----------------------------------------------------------------------------------------
# dictionary


def test_dictionary_is_that_of_the_cell(result):
    got = result.dictionary(dataset="<b>&", seed=5, ratio=2, l1=0.178)
    expected = weights((1, 1, 1, 1, 0, 0, 0, 0))
    np.testing.assert_array_equal(got.W_enc, expected.W_enc)
    np.testing.assert_array_equal(got.W_dec, expected.W_dec)


def test_dictionary_asks_for_the_axis_left_open(result):
    with pytest.raises(ValueError, match="seed: not given, and the sweep has several: 0, 5, 9"):
        result.dictionary(dataset="<b>&", ratio=2, l1=0.01)
    with pytest.raises(ValueError, match="allowed: 0, 5, 9"):
        result.dictionary(dataset="<b>&", ratio=2, l1=0.01, seed=3)


# ---------------------------------------------------------------------------------------- grid


def test_grid_is_mean_and_deviation_over_the_chosen_seeds(result):
    mean, sd = result.grid("mmcs_true_to_dict", dataset="uncorrelated")
    values = result.final["mmcs_true_to_dict"][0, :, :, :, 0, 0, 0, 0].copy()
    values[1, 0, 1] = np.nan  # the frozen cell
    np.testing.assert_allclose(mean, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(sd, np.nanstd(values, axis=0, ddof=1), rtol=1e-12)
    one, none = result.grid("mmcs_true_to_dict", dataset="uncorrelated", seed=9)
    np.testing.assert_array_equal(one, values[2])
    assert np.isnan(none).all()


def test_grid_of_cells_that_all_froze_is_empty(result):
    mean, _ = result.grid("mse", dataset="<b>&")
    np.testing.assert_array_equal(np.isnan(mean), [[False, False], [True, False]])


def test_grid_is_cut_to_the_chosen_ratios_and_l1(result):
    whole, _ = result.grid("mse", dataset="<b>&")
    part, _ = result.grid("mse", dataset="<b>&", l1=0.178)
    np.testing.assert_array_equal(part, whole[:, 1:])


def test_grid_asks_for_the_data_set(result):
    with pytest.raises(ValueError, match="dataset: not given, and the sweep has several: uncorr"):
        result.grid("mse")


def test_heatmap_shows_a_panel_a_data_set_and_leaves_pyplot_alone(result):
    figure = result.plot_heatmap("mse")
    assert isinstance(figure, Figure)
    assert [ax.get_title() for ax in figure.axes[:2]] == list(COORDS["dataset"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["0.5", "2"]
    shown = np.ma.filled(figure.axes[1].get_images()[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, result.grid("mse", dataset="<b>&")[0])
    assert "3 seeds" in figure.get_suptitle()
    single = result.plot_heatmap("mse", dataset="uncorrelated", seed=0)
    assert [ax.get_title() for ax in single.axes[:1]] == ["uncorrelated"]
    assert "seeds" not in single.get_suptitle()
    assert pyplot.get_fignums() == []


def test_heatmap_asks_for_an_axis_it_cannot_show():
    result = make(COORDS | {"lr": (1e-3, 1e-2)})
    with pytest.raises(
        ValueError, match=r"lr: not given, and the sweep has several: 0\.001, 0\.01"
    ):
        result.plot_heatmap("mse")
    assert isinstance(result.plot_heatmap("mse", lr=0.01), Figure)


# ---------------------------------------------------------------------------------------- holes

MIXED = COORDS | {
    "dataset": ("one",),
    "l1": (0.01, 0.1, 0.0),
    "resample": ("off", "auxk"),
    "architecture": ("relu", "topk"),
    "k": (0, 2, 4),
}


def is_cell(index):
    at = dict(zip(AXES, index, strict=True))
    if at["architecture"]:
        return at["l1"] == 2 and at["k"] > 0
    return at["l1"] < 2 and at["k"] == 0 and at["resample"] == 0


@pytest.fixture(scope="module")
def mixed():
    """ReLUs at two l1, and TopKs at two k with and without AuxK; every other combination is
    none."""
    whole = make(MIXED)
    frozen_at = whole.final["frozen_at"].copy()
    holes = [index for index in np.ndindex(frozen_at.shape) if not is_cell(index)]
    frozen_at[tuple(np.array(holes).T)] = ABSENT
    final = {name: np.where(frozen_at == ABSENT, np.nan, a) for name, a in whole.final.items()}
    return replace(
        whole,
        final=final | {"frozen_at": frozen_at},
        load_params=lambda index: weights(index, frozen_at.shape),
    )


def test_cells_are_the_combinations_that_were_trained(mixed):
    assert mixed.cells() == [
        index for index in np.ndindex(mixed.values("mse").shape) if is_cell(index)
    ]
    assert len(mixed.cells()) == 3 * 2 * (2 + 2 * 2)
    axes = "3 seed x 2 ratio x 3 l1 x 2 resample x 2 architecture x 3 k"
    assert repr(mixed) == f"Result(36 SAEs: {axes}; 20 steps)"


def test_select_leaves_out_positions_at_which_there_is_no_cell(mixed):
    def chosen(**where):
        found = dict(zip(AXES, mixed.select(**where), strict=True))
        return {name: found[name] for name in ("l1", "resample", "architecture", "k")}

    relu = {"l1": (0, 1), "resample": (0,), "architecture": (0,), "k": (0,)}
    topk = {"l1": (2,), "resample": (0, 1), "architecture": (1,), "k": (1, 2)}
    assert chosen(architecture="relu") == chosen(k=0) == relu
    assert chosen(architecture="topk") == chosen(l1=0) == topk
    assert chosen(l1=0.1) == relu | {"l1": (1,)}
    assert chosen(resample="auxk", k=4) == topk | {"resample": (1,), "k": (2,)}
    assert chosen() == {"l1": (0, 1, 2), "resample": (0, 1), "architecture": (0, 1), "k": (0, 1, 2)}


def test_coordinates_that_no_cell_has_together_are_refused(mixed):
    for where in (
        {"architecture": "topk", "l1": 0.1},
        {"resample": "auxk", "architecture": "relu"},
    ):
        got = ", ".join(f"{name}={value}" for name, value in where.items())
        for call in (mixed.select, mixed.dictionary, mixed.best, mixed.sparsity):
            with pytest.raises(ValueError, match=f"got {got}, allowed: coordinates of a cell"):
                call(**where)


def test_a_cell_is_named_by_what_tells_it_from_the_others(mixed):
    got = mixed.dictionary(seed=5, ratio=2, k=4, resample="auxk")
    want = weights((0, 1, 1, 2, 0, 1, 1, 2), mixed.final["frozen_at"].shape)
    np.testing.assert_array_equal(got.W_enc, want.W_enc)
    with pytest.raises(ValueError, match=r"l1: not given, and the sweep has several: 0\.01, 0\.1$"):
        mixed.dictionary(seed=5, ratio=2, architecture="relu")


def test_variants_are_the_combinations_that_have_cells(mixed):
    assert mixed.variants == [
        {"resample": "off", "architecture": "relu"},
        {"resample": "off", "architecture": "topk"},
        {"resample": "auxk", "architecture": "topk"},
    ]


def test_tables_have_rows_for_cells_alone(mixed):
    table = mixed.table()
    assert table.columns[:7] == ["dataset", "architecture", "ratio", "l1", "k", "seed", "d_sae"]
    assert len(table) == 36
    for row, index in zip(table, mixed.cells(), strict=True):
        assert [row[name] for name in AXES] == [
            v[i] for v, i in zip(MIXED.values(), index, strict=True)
        ]
        assert row["mse"] == mixed.final["mse"][index]
        assert row["frozen_at"] is None
    over_seeds = mixed.table(over_seeds=True)
    assert len(over_seeds) == 12
    assert {row["frozen"] for row in over_seeds} == {0}
    assert not any(np.isnan(row["mse"]) for row in over_seeds)


def test_best_is_a_cell(mixed):
    for architecture in ("relu", "topk"):
        at = np.ix_(*mixed.select(architecture=architecture, seed=9))
        row = mixed.best("mse", architecture=architecture, seed=9)
        assert (row["mse"], row["architecture"]) == (mixed.final["mse"][at].min(), architecture)
    means = mixed.final["mse"][:, :, :, 2, :, :, 1, 1:].mean(axis=1)
    assert mixed.best("mse", architecture="topk")["mse"] == pytest.approx(means.min())


def test_the_axis_of_sparsity_is_that_of_the_architecture(mixed):
    assert mixed.sparsity(architecture="relu") == ("l1", (0.01, 0.1))
    assert mixed.sparsity(architecture="topk") == ("k", (2, 4))
    assert mixed.sparsity(architecture="topk", k=4) == ("k", (4,))
    assert mixed.sparsity(l1=0.1) == ("l1", (0.1,))
    with pytest.raises(ValueError, match=r"architecture: not given, and .* several: relu, topk"):
        mixed.sparsity()


def test_grid_and_cut_have_the_values_of_the_architectures_own_axis(mixed):
    values = mixed.final["mse"]
    own = {"relu": values[0, :, :, :2, 0, 0, 0, 0], "topk": values[0, :, :, 2, 0, 1, 1, 1:]}
    ways = {"relu": {}, "topk": {"resample": "auxk"}}
    for name, want in own.items():
        where = {"architecture": name, **ways[name]}
        np.testing.assert_array_equal(mixed.cut(values, **where), want)
        np.testing.assert_allclose(mixed.grid("mse", **where)[0], want.mean(0), rtol=1e-12)
        pairs = np.stack([values, -values], axis=-1)
        np.testing.assert_array_equal(mixed.cut(pairs, **where), np.stack([want, -want], axis=-1))
    with pytest.raises(
        ValueError, match="resample: not given, and the sweep has several: off, auxk"
    ):
        mixed.grid("mse", architecture="topk")


def test_a_heat_map_shows_one_architecture_over_its_own_axis(mixed):
    with pytest.raises(ValueError, match="architecture: not given"):
        mixed.plot_heatmap("mse")
    figure = mixed.plot_heatmap("mse", architecture="topk", resample="off")
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "4"]
    shown = np.ma.filled(ax.get_images()[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, mixed.grid("mse", architecture="topk", resample="off")[0])
    assert "architecture = topk" in figure.get_suptitle()


def test_repr_counts_the_cells(result):
    assert repr(result) == "Result(24 SAEs: 2 dataset x 3 seed x 2 ratio x 2 l1; 20 steps)"


# ---------------------------------------------------------------------------------------- text


@pytest.fixture
def small():
    return Table(
        [
            {"name": 'a<b>&"c', "x": 0.123456789, "n": 12345678, "none": None},
            {"name": "comma, too", "x": float("nan"), "n": 0, "none": "set"},
        ]
    )


def test_csv_quotes_text_and_leaves_nan_empty(small):
    assert list(csv.reader(io.StringIO(small.to_csv()))) == [
        ["name", "x", "n", "none"],
        ['a<b>&"c', "0.1234568", "12345678", ""],
        ["comma, too", "", "0", "set"],
    ]


def test_html_escapes_text_and_leaves_nan_empty(small):
    page = small.to_html()
    assert "<b>" not in page
    assert "a&lt;b&gt;&amp;&quot;c" in page
    assert "<td>comma, too</td><td></td><td>0</td><td>set</td>" in page
    assert page.count("<tr>") == 3
    assert small._repr_html_() == page


def test_text_is_aligned_and_to_four_figures(small):
    lines = str(small).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ['a<b>&"c', "0.1235", "12345678"]
    assert repr(small) == str(small)


def test_a_slice_of_a_table_is_a_table(small):
    assert isinstance(small[1:], Table)
    assert small[1:].columns == small.columns
    assert small[0] == dict(small[0])
    assert (str(Table([])), Table([]).columns) == ("", [])


def test_best_by_something_that_has_no_better_end_is_refused(result):
    result.final["kept"] = result.final["mse"]
    with pytest.raises(ValueError, match=r"metric: got 'kept', allowed: mmcs_true_to_dict"):
        result.best("kept")
    del result.final["kept"]
