"""The probe is a small part of a run, and scaled to the whole by hand it is the forecast."""

import time
from dataclasses import replace

import numpy as np
import pytest

from saejax import Resample, Settings, Sweep, Synthetic
from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.data.store.writer import StoreWriter
from saejax.training import forecast
from saejax.training.forecast import Forecast, describe_plan, duration, probe
from saejax.training.loop import train
from saejax.training.memory import Memory
from saejax.training.planning import make_plan

SPEC = Synthetic("uncorrelated", d_in=6, n_features=8, avg_active=2.0)
SETTINGS = Settings(steps=40, batch_size=16, eval_every=10, eval_batches=2, snapshot_every=5)
SWEEP = Sweep(l1=(0.1, 0.2, 0.3, 0.4, 0.5), ratio=(1, 2), seeds=(0, 1, 2))
TIMES = Forecast(
    prepare=3.0, step=0.5, evaluation=2.0, snapshot=1.0, steps=100, evaluations=10, snapshots=5
)


def test_the_total_is_all_steps_evaluations_and_snapshots_after_the_preparation():
    assert TIMES.total == 3 + 50 + 20 + 5
    assert TIMES.evaluation_share == 25 / 75


@pytest.mark.parametrize(
    ("cell_batch", "scale"),
    [
        (None, 15 / 2),  # blocks of one cell: two of fifteen are probed
        (2, 18 / 4),  # three blocks make five settings, one cell of which comes twice
        (4, 6 / 2),  # two blocks make the five settings of a seed, three cells of which come twice
        (5, 3 / 2),  # a block is a seed: two of three are probed
        (15, 1),  # one block, which is the run
    ],
)
def test_two_blocks_are_measured_and_scaled_by_the_number_of_blocks(monkeypatch, cell_batch, scale):
    """Of the probe a step takes 0.1 s, an evaluation 1 s, a snapshot 2 s, drawing a batch 1 ms."""
    probed = []

    def measured(part, snapshots):
        assert snapshots
        probed.append(part)
        return 3.0, 0.1, 1.0, 2.0

    monkeypatch.setattr(forecast, "_measured", measured)
    monkeypatch.setattr(forecast, "_draws", lambda plan: dict.fromkeys(plan.sources, 0.003))
    run = make_plan(SWEEP, SPEC, replace(SETTINGS, cell_batch=cell_batch))
    found = probe(run)
    (part,) = probed
    assert part.d_sae == run.d_sae
    own, drawn = 0.001 * part.n_source, 0.003
    assert found.prepare == 3
    assert found.step == pytest.approx((0.1 - own) * scale + drawn)
    assert found.evaluation == pytest.approx((1 - 2 * own) * scale + 2 * drawn)
    assert found.snapshot == pytest.approx((2 - 2 * own) * scale + 2 * drawn)
    assert (found.steps, found.evaluations, found.snapshots) == (40, 4, 9)


def test_every_way_to_revive_is_in_the_probe():
    settings = replace(SETTINGS, resample=Resample(every=4, ghost_after=2), snapshot_every=0)
    ways = ("off", "on", "ghost")
    run = make_plan(Sweep(l1=(0.1, 0.2), ratio=1, resample=ways), SPEC, settings)
    part = forecast._part(run)
    assert part.sweep.resample == ways
    assert part.sweep.l1 == (0.1,)


def test_reading_a_store_counts_where_it_is_slower_than_training(tmp_path, monkeypatch):
    own = StoreConfig({}, "h", 6, dtype="float32", rows_per_shard=200, has_tokens=False)
    with StoreWriter(tmp_path / "store", own) as writer:
        writer.append(np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32))
        writer.finish()
    source = StoreSource(Store.open(tmp_path / "store"), held_out=0.3)
    settings = replace(SETTINGS, snapshot_every=0)
    run = make_plan(Sweep(l1=(0.1, 0.2), ratio=1), {"a": source}, settings)
    monkeypatch.setattr(forecast, "_reading", lambda plan: 7.0)
    found = probe(run)
    assert found.step == 7
    assert found.snapshot == found.snapshots == 0
    assert 0 < found.evaluation < 1


def test_reading_is_timed_for_every_seed(monkeypatch):
    class Slow:
        d_in, n_features = 6, None

        def feed(self, seed, step, n_steps, batch_size):
            time.sleep(0.05)
            return np.zeros((n_steps, batch_size, 6), np.float32)

        def evaluation(self, n_batches, batch_size):
            return np.zeros((n_batches, batch_size, 6), np.float32)

        def mean(self):
            return np.zeros(6)

        def describe(self):
            return {}

    run = make_plan(Sweep(l1=0.1, ratio=1, seeds=(0, 1)), {"a": Slow(), "b": Slow()}, SETTINGS)
    # Ten steps are read at once; two seeds of two data sets.
    assert 4 * 0.05 / 10 <= forecast._reading(run) < 0.1


def test_a_forecast_has_the_size_of_the_run(monkeypatch):
    # Other processes take none of the time that is measured here.
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    settings = replace(SETTINGS, steps=600, eval_every=100, snapshot_every=0, batch_size=64)
    sweep = Sweep(l1=(0.1, 0.2, 0.3, 0.4, 0.5), ratio=16, seeds=(0, 1))
    found = probe(make_plan(sweep, SPEC, settings))
    took = sum(train(sweep, SPEC, settings, progress=False).run["chunk_seconds"])
    assert found.total - found.prepare == pytest.approx(took, rel=0.7)


def test_a_plan_reads_as_a_table():
    run = make_plan(SWEEP, SPEC, SETTINGS)
    memory = Memory(
        weights=1_000_000,
        moments=2_000_000,
        spare=3_000_000,
        data=0,
        results=0,
        program=0,
        batches=500_000,
        activations=4_000_000,
    )
    lines = describe_plan(run, memory, TIMES).splitlines()
    words = [line.split() for line in lines]
    assert lines[0] == "3 sources x 5 settings x 2 widths, d_in 6, batches of 16, 40 steps"
    # 15 cells; 2 d_in d_sae weights and d_sae biases; 10 batch d_in d_sae operations a cell.
    assert ["8", "15", str(15 * (2 * 6 * 8 + 8)), "1", "0.0001152"] in words
    assert ["16", "15", str(15 * (2 * 6 * 16 + 16)), "1", "0.0002304"] in words
    assert ["all", "30", str(15 * 13 * 24), "0.0003456"] in words
    assert ["moments", "2"] in words
    assert ["total", "10.5"] in words
    assert ["training", "step", "0.5", "100", "50"] in words
    assert ["total", "78"] in words
    assert "78 seconds" in lines[-1]
    assert "0.0105 GB" in lines[-1]
    assert "33.3% of the training time" in lines[-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (7.5, "7.5 seconds"),
        (119, "119 seconds"),
        (600, "10 minutes"),
        (9000, "2.5 hours"),
        (3e5, "3.47 days"),
    ],
)
def test_durations_have_the_unit_of_which_there_are_some(seconds, text):
    assert duration(seconds) == text
