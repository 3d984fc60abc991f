"""Selection, means over seeds, best rows and dictionaries of a result made by hand."""

from itertools import product

import numpy as np
import pytest
from helpers.made_result import COORDS, NAMES, SHAPE, make, weights
from matplotlib import pyplot
from matplotlib.figure import Figure

from saejax.results.axes import AXES


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


# --------------------------------------------------------------------------------------- dictionary


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
