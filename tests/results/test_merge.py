"""Results of several sweeps as one, and two side by side: against a sweep that has all cells."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats

from saejax import Settings, Sweep, Synthetic, compare, load, merge, save, train
from saejax.results.axes import ABSENT

DATA = Synthetic(d_in=6, n_features=8, avg_active=2)
SETTINGS = Settings(steps=6, batch_size=16, eval_every=3, eval_batches=1, snapshot_every=3)
BASE = {"l1": (0.01, 0.1), "ratio": (1, 2), "seeds": (0, 1)}


def run(data=DATA, settings=SETTINGS, **axes):
    return train(Sweep(**BASE | axes), data, settings, progress=False)


@pytest.fixture(scope="module")
def first():
    return run()


@pytest.fixture(scope="module")
def seeds(first):
    return merge(first, run(seeds=(2, 5)))


def test_further_seeds_make_the_sweep_of_all_of_them(seeds):
    whole = run(seeds=(0, 1, 2, 5))
    assert (seeds.coords, seeds.d_sae) == (whole.coords, whole.d_sae)
    for name, values in whole.final.items():
        np.testing.assert_allclose(seeds.final[name], values, rtol=1e-4, err_msg=name)
    for name, values in whole.history.items():
        np.testing.assert_allclose(seeds.history[name], values, rtol=1e-4, err_msg=name)
    np.testing.assert_array_equal(seeds.best_index, whole.best_index)
    np.testing.assert_allclose(seeds.best_cosine, whole.best_cosine, rtol=1e-5)
    np.testing.assert_array_equal(seeds.features, whole.features)
    at = {"l1": 0.1, "ratio": 2, "seed": 5}
    for got, expected in zip(
        jax.tree.leaves((seeds.dictionary(**at), seeds.snapshots(**at))),
        jax.tree.leaves((whole.dictionary(**at), whole.snapshots(**at))),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    assert len(seeds.table(over_seeds=True)) == 4


def test_another_architecture_leaves_holes_and_every_cell_keeps_its_own(first):
    other = run(architecture="topk", l1=None, k=(2, 3), ratio=(2,))
    both = merge(first, other)
    assert both.coords["architecture"] == ("relu", "topk")
    assert (both.coords["l1"], both.coords["k"]) == ((0.0, 0.01, 0.1), (0, 2, 3))
    assert len(both.cells()) == len(first.cells()) + len(other.cells()) == len(both.table())
    assert (both.final["frozen_at"] == ABSENT).sum() == both.final["frozen_at"].size - 12
    assert np.isnan(both.final["mse"][both.final["frozen_at"] == ABSENT]).all()
    for name in ("mse", "represented"):
        np.testing.assert_array_equal(
            both.cut(both.history[name][0], architecture="topk"), other.cut(other.history[name][0])
        )
        np.testing.assert_array_equal(
            both.cut(both.final[name], architecture="relu"), first.cut(first.final[name])
        )
    at = {"ratio": 2, "seed": 1}
    np.testing.assert_array_equal(
        both.dictionary(architecture="topk", k=3, **at).W_dec, other.dictionary(k=3, **at).W_dec
    )
    with pytest.raises(ValueError, match="no cell"):
        both.dictionary(architecture="topk", ratio=1)


def test_a_ratio_in_between_is_the_next_larger_one_now():
    whole = run(ratio=(1, 2, 4), l1=(0.01, 0.1, 0.3))
    parts = (
        run(ratio=(4, 1), l1=(0.01, 0.3)),
        run(ratio=2, l1=(0.01, 0.3)),
        run(ratio=(1, 2, 4), l1=0.1),
    )
    joined = merge(*parts)
    assert (joined.coords, joined.d_sae) == (whole.coords, whole.d_sae)
    for name in ("mmcs_to_next_larger", "mse"):
        np.testing.assert_allclose(joined.final[name], whole.final[name], rtol=1e-4, err_msg=name)
    again = merge(whole, run(ratio=(1,), l1=(0.01,)))
    np.testing.assert_allclose(
        again.final["mmcs_to_next_larger"], whole.final["mmcs_to_next_larger"], rtol=1e-5
    )


def test_another_data_set_with_other_seeds_has_features_where_it_was_trained(first):
    other = run(data={"rare": replace(DATA, avg_active=1)}, seeds=(1, 2))
    both = merge(first, other)
    assert both.coords["dataset"] == ("uncorrelated", "rare")
    assert both.coords["seed"] == (0, 1, 2)
    np.testing.assert_array_equal(both.features[0, :2], first.features[0])
    np.testing.assert_array_equal(both.features[1, 1:], other.features[0])
    assert np.isnan(both.features[0, 2]).all()
    assert set(both.run["data"]) == {"uncorrelated", "rare"}


def test_a_merged_result_is_saved_and_loaded(seeds, tmp_path):
    again = load(save(seeds, tmp_path / "all"))
    assert (again.coords, again.d_sae, repr(again)) == (seeds.coords, seeds.d_sae, repr(seeds))
    for name, values in seeds.final.items():
        np.testing.assert_array_equal(again.final[name], values)
    at = {"l1": 0.1, "ratio": 2, "seed": 5}
    np.testing.assert_array_equal(again.dictionary(**at).W_enc, seeds.dictionary(**at).W_enc)
    np.testing.assert_array_equal(again.snapshots(**at).W_dec, seeds.snapshots(**at).W_dec)
    lines = (tmp_path / "all" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 * len(seeds.cells())
    with pytest.raises(FileExistsError, match="all"):
        save(seeds, tmp_path / "all")


def test_a_cell_in_both_must_be_the_same(first):
    assert merge(first, first).coords == first.coords
    changed = replace(first, final=first.final | {"mse": first.final["mse"] * 2})
    with pytest.raises(
        ValueError, match="two different results of the cell dataset=uncorrelated, seed=0"
    ):
        merge(first, changed)


def test_what_cannot_stand_in_one_table_is_refused(first):
    with pytest.raises(ValueError, match=r"settings\.batch_size: got 16, allowed: 8"):
        merge(first, run(settings=replace(SETTINGS, batch_size=8)))
    with pytest.raises(ValueError, match=r"uncorrelated\.avg_active: got 2\.0, allowed: 1\.0"):
        merge(first, run(data=replace(DATA, avg_active=1), seeds=7))
    with pytest.raises(ValueError, match="got no result"):
        merge()


def test_results_are_compared_pair_by_pair(first, seeds):
    other = run(settings=replace(SETTINGS, batch_size=8), seeds=(1, 0, 9), l1=(0.1, 0.3))
    rows = compare(first, other, ["mse"])
    assert [(row["l1"], row["ratio"], row["seeds"]) for row in rows] == [(0.1, 1, 2), (0.1, 2, 2)]
    x = [first.final["mse"][0, s, 1, 1, 0, 0, 0, 0] for s in (0, 1)]
    y = [other.final["mse"][0, s, 1, 0, 0, 0, 0, 0] for s in (1, 0)]
    row, difference = rows[1], np.subtract(y, x)
    np.testing.assert_allclose([row["a"], row["b"]], [np.mean(x), np.mean(y)], rtol=1e-6)
    np.testing.assert_allclose(row["difference"], difference.mean(), rtol=1e-5)
    low, high = stats.ttest_rel(y, x).confidence_interval(0.95)
    np.testing.assert_allclose(row["+-"], (high - low) / 2, rtol=1e-4)
    assert {row["metric"] for row in compare(first, seeds)} >= {"mse", "l0", "represented"}
    with pytest.raises(ValueError, match="without a cell in common"):
        compare(first, run(l1=0.5))
