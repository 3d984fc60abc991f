"""How far sweeps differ against the spread over seeds: by hand, and as the command leaves it."""

import csv

import numpy as np
import pytest
from helpers import commands
from scipy import stats

from saejax import load
from saejax.experiments.precision import __main__ as precision
from saejax.results.compare import agreement
from saejax.results.result import Result

COORDS = {
    "dataset": ("a", "b"),
    "seed": (0, 1, 2),
    "ratio": (1.0,),
    "l1": (0.1, 0.2),
    "lr": (0.1,),
    "resample": ("off",),
}
SHAPE = (2, 3, 1, 2, 1, 1)
TINY = [
    "--datasets=uncorrelated",
    "--ratio=1",
    "--l1=0.01,0.1",
    "--seeds=0,1",
    "--d_in=6",
    "--n_features=8",
    "--avg_active=2",
    "--steps=8",
    "--eval_every=4",
    "--batch_size=16",
    "--lr=0.05",
]


def result(mse, coords=COORDS, frozen=()):
    frozen_at = np.full(SHAPE, -1)
    for index in frozen:
        frozen_at[index] = 3
    final = {"mse": np.asarray(mse, float).reshape(SHAPE), "frozen_at": frozen_at}
    none = (None,) * 3
    return Result(coords, (4,), {}, np.array([1]), {}, final, *none, lambda _: None)  # pyright: ignore


def test_figures_by_hand():
    x = np.array([[[1.0, 10], [2, 20], [3, 30]], [[0, 0], [0, 0], [0, 6]]])
    y = x + np.array([[[0.5, 20], [0.5, 20], [0.2, 20]], [[0, 1], [0, 1], [0, 1]]])
    first, second = agreement(result(x), {"other": result(y)}, ["mse"])
    assert (first["sweep"], first["dataset"]) == ("other", "a")
    assert first["reference"] == 11
    assert first["seed_sd"] == pytest.approx(np.sqrt((1**2 + 10**2) / 2))
    by_seed = np.array([10.25, 10.25, 10.1])
    assert first["shift"] == pytest.approx(by_seed.mean())
    low, high = stats.t.interval(0.95, 2, by_seed.mean(), stats.sem(by_seed))
    assert first["+-"] == pytest.approx((high - low) / 2)
    assert first["moved"] == pytest.approx(np.sqrt((0.4**2 + 20**2) / 2))
    assert first["inside"] == 0.5  # 0.4 of 1, and 20 of 10
    assert (second["dataset"], second["inside"]) == ("b", 1)  # a cell that does not move is inside


def test_cells_that_were_frozen_in_one_of_them_are_left_out():
    x = np.ones(SHAPE)
    y = x.copy()
    y[0, 1, 0, 1] = 1e9
    row = agreement(result(x), {"other": result(y, frozen=[(0, 1, 0, 1)])}, ["mse"])[0]
    assert (row["shift"], row["inside"]) == (0, 1)


def test_one_seed_and_other_axes_are_refused():
    with pytest.raises(ValueError, match=r"other: got other axes"):
        agreement(
            result(np.ones(SHAPE)), {"other": result(np.ones(SHAPE), COORDS | {"l1": (1, 2)})}, []
        )
    with pytest.raises(ValueError, match=r"seeds: got \(0,\), allowed: two or more"):
        agreement(result(np.ones(SHAPE), COORDS | {"seed": (0,)}), {}, [])


def test_the_command_trains_at_every_precision_and_leaves_a_table(tmp_path, capsys):
    path = tmp_path / "run"
    with commands.parsing(precision) as parse:
        for bad, message in (
            ("--precisions=highest", "precisions: got 'highest', allowed: others than"),
            ("--precisions=fp8", "precisions: got 'fp8', allowed: each of"),
            ("--seeds=0", "seeds: got"),
        ):
            with pytest.raises(SystemExit, match=message):
                precision.main(parse(*TINY, f"--workdir={path}", bad))
        assert not path.exists()
        precision.main(parse(*TINY, f"--workdir={path}", "--precisions=bf16"))
    with (path / "agreement.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["sweep"], r["metric"]) for r in rows] == [("bf16", m) for m in precision.METRICS]
    used = {
        name: load(path / name).run["settings"]["matmul_precision"] for name in ("highest", "bf16")
    }
    assert used == {"highest": "highest", "bf16": "bf16"}
    assert float(rows[1]["shift"]) != 0
    assert "bf16" in capsys.readouterr().out
