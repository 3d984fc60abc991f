"""A result of several architectures: where there is a cell, and tables of its numbers."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from helpers.made_result import COORDS, make, weights

from saejax.core.table import Table
from saejax.results.axes import ABSENT, AXES


@pytest.fixture(scope="module")
def result():
    return make()


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
