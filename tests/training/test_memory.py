"""Bytes of a run, held against the arrays of its start and what the compiler asks for."""

import os
import re
from dataclasses import replace

import jax
import jax.monitoring
import numpy as np
import pytest

from saejax import Resample, SAEConfig, Settings, Sweep, Synthetic
from saejax.core.devices import Layout
from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.data.store.writer import StoreWriter
from saejax.training import capacity
from saejax.training.capacity import check_fits, default_cell_batches
from saejax.training.memory import estimate
from saejax.training.planning import make_plan
from saejax.training.state import compile_chunk, start

SPEC = Synthetic("uncorrelated", d_in=16, n_features=32, avg_active=2.0)
SETTINGS = Settings(steps=8, batch_size=64, eval_every=4, eval_batches=2)
SWEEP = Sweep(l1=(0.1, 0.2, 0.3), ratio=(0.5, 4))
REVIVED = Resample(every=4, ghost_after=2)
WAYS = Sweep(l1=0.1, ratio=(0.5, 4), resample=("on", "ghost"))


def plan(sweep=SWEEP, data=SPEC, **changes):
    return make_plan(sweep, data, replace(SETTINGS, **changes))


def n_bytes(tree):
    return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(tree))


def both_kinds():
    return {kind: replace(SPEC, kind=kind) for kind in ("uncorrelated", "correlated")}


@pytest.mark.parametrize(
    "made",
    [
        lambda: plan(),
        lambda: plan(sae=SAEConfig(use_b_dec=True)),
        lambda: plan(WAYS, resample=REVIVED),
        lambda: plan(Sweep(l1=0.1, ratio=1, seeds=(0, 3)), both_kinds()),
        lambda: plan(Sweep(l1=0.1, ratio=2), np.ones((100, 16), np.float32)),
    ],
    ids=["plain", "b_dec", "revived", "two data sets and seeds", "array"],
)
def test_what_lies_on_the_device_all_the_time_is_counted_exactly(made):
    run = made()
    state, inputs = jax.eval_shape(lambda: start(run))
    found = estimate(run)
    assert found.weights == sum(n_bytes((g.params, g.silent, g.frozen_at)) for g in state.cells)
    assert found.moments == sum(n_bytes(g.opt) for g in state.cells)
    assert found.spare == n_bytes(state.spare)
    assert found.data == n_bytes((inputs.arrays, state.matches))


@pytest.mark.parametrize(
    "made",
    [
        lambda: plan(batch_size=512),
        lambda: plan(Sweep(l1=(0.1, 0.2), ratio=16), batch_size=32),
        lambda: plan(WAYS, batch_size=32, resample=REVIVED),
    ],
    ids=["large batch", "wide", "revived"],
)
def test_the_compiler_asks_for_what_was_estimated(optimised, made):
    run = made()
    found = estimate(run)
    asked = compile_chunk(run, *jax.eval_shape(lambda: start(run))).memory_analysis()
    total = asked.argument_size_in_bytes + asked.temp_size_in_bytes
    total += asked.output_size_in_bytes - asked.alias_size_in_bytes
    ours = found.total - found.program - found.results
    assert ours == pytest.approx(total, rel=0.15)
    assert found.batches + found.activations == pytest.approx(asked.temp_size_in_bytes, rel=0.25)


def test_temporaries_of_groups_without_loops_add_up_and_those_of_loops_take_turns():
    def activations(ratio, cell_batch):
        run = plan(Sweep(l1=(0.1, 0.2, 0.3), ratio=ratio), batch_size=512, cell_batch=cell_batch)
        return estimate(run).activations

    one, other = activations(2, 3), activations(4, 3)
    assert activations((2, 4), 3) == one + other
    assert activations((2, 4), 1) == max(activations(2, 1), activations(4, 1)) > 0


def test_the_kinds_add_up_to_the_total():
    found = estimate(plan())
    assert found.total == sum(vars(found).values())


def test_chunks_that_the_host_feeds_are_counted_twice_in_their_own_dtype(tmp_path):
    own = StoreConfig({}, "h", 16, dtype="bfloat16", rows_per_shard=500, has_tokens=False)
    with StoreWriter(tmp_path / "store", own) as writer:
        writer.append(np.ones((500, 16), np.float32))
        writer.finish()
    source = StoreSource(Store.open(tmp_path / "store"), held_out=0.3)
    run = plan(Sweep(l1=0.1, ratio=1, seeds=(0, 1)), {"a": source, "b": source})
    chunk = 2 * 2 * 4 * 64 * 16 * 2  # sources, seeds, steps, samples, numbers, bytes
    held_out = 2 * 2 * 64 * 16 * 2
    assert estimate(run).data == 2 * chunk + held_out


def test_snapshots_are_counted():
    one = 3 * sum((4 * 16 + 1) * d for d in (16, 128))  # float32 rows and a bool, of 3 cells
    without, with_them = (estimate(plan(snapshot_every=every)).results for every in (0, 2))
    # A copy is made when those of all chunks and the one before training are joined.
    assert with_them - without == 2 * one * 5


def test_estimates_compile_nothing():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None
    )
    try:
        found = estimate(plan(Sweep(), both_kinds(), batch_size=4096))
        assert not compiled
        jax.jit(lambda a: a + 3.25)(1.0)
        assert compiled
    finally:
        jax.monitoring.clear_event_listeners()
    assert found.total > 0


# -------------------------------------------------------------------------------- what does not fit


def refused(monkeypatch, run, limit):
    """Flag that the error names, value got, largest value allowed."""
    monkeypatch.setattr(capacity, "device_memory", lambda: limit)
    with pytest.raises(ValueError, match="allowed") as error:
        check_fits(run)
    name, got, allowed = re.fullmatch(
        r"(\w+): got (\S+), which needs .+ GB on .+ of .+ GB; allowed: .*?([\d.]+)(?: .*)?",
        str(error.value),
    ).groups()
    return name, float(got), float(allowed)


def fits_in(monkeypatch, run, limit):
    monkeypatch.setattr(capacity, "device_memory", lambda: limit)
    check_fits(run)
    return True


def needs(run):
    return estimate(run).total


def test_a_run_that_fits_exactly_is_not_refused(monkeypatch):
    run = plan()
    assert fits_in(monkeypatch, run, needs(run))
    with pytest.raises(ValueError, match="allowed"):
        fits_in(monkeypatch, run, needs(run) - 1)


def test_too_many_cells_side_by_side_are_refused_with_the_most_that_fit(monkeypatch):
    run = plan(Sweep(l1=(0.1, 0.2, 0.3, 0.4, 0.5), ratio=4), batch_size=2048, cell_batch=4)
    limit = needs(plan(run.sweep, batch_size=2048, cell_batch=2))
    assert refused(monkeypatch, run, limit) == ("cell_batch", 4, 2)


def test_too_large_a_batch_is_refused_with_the_largest_that_fits(monkeypatch):
    run = plan(batch_size=4096)
    limit = needs(plan(batch_size=1000))
    name, got, allowed = refused(monkeypatch, run, limit)
    assert (name, got) == ("batch_size", 4096)
    assert fits_in(monkeypatch, plan(batch_size=int(allowed)), limit)
    with pytest.raises(ValueError, match=f"batch_size: got {int(allowed) + 1}"):
        plan(batch_size=int(allowed) + 1)


def test_too_wide_a_dictionary_is_refused_with_the_widest_that_fits(monkeypatch):
    wide = Sweep(l1=(0.1, 0.2), ratio=(64, 1, 256))
    limit = needs(plan(Sweep(l1=(0.1, 0.2), ratio=(64, 1))))
    assert refused(monkeypatch, plan(wide), limit) == ("ratio", 256, 64)


def test_too_long_a_chunk_of_a_store_is_refused_with_the_longest_that_fits(monkeypatch, tmp_path):
    own = StoreConfig({}, "h", 16, dtype="float32", rows_per_shard=500, has_tokens=False)
    with StoreWriter(tmp_path / "store", own) as writer:
        writer.append(np.ones((500, 16), np.float32))
        writer.finish()
    source = StoreSource(Store.open(tmp_path / "store"), held_out=0.3)
    sizes = {"steps": 1000, "eval_every": 1000}
    limit = needs(plan(Sweep(l1=0.1, ratio=1), source, steps=1000, eval_every=200))
    assert (
        refused(monkeypatch, plan(Sweep(l1=0.1, ratio=1), source, **sizes), limit)[0]
        == "eval_every"
    )


def test_snapshots_that_do_not_fit_are_refused(monkeypatch):
    run = plan(steps=4000, snapshot_every=1)
    assert refused(monkeypatch, run, needs(plan(steps=4000))) == ("snapshot_every", 1, 0)


def test_where_nothing_fits_the_error_says_what_one_cell_takes(monkeypatch):
    monkeypatch.setattr(capacity, "device_memory", lambda: 10)
    with pytest.raises(
        ValueError, match=r"3 cells of each width on a device.*more devices; one takes"
    ):
        check_fits(plan())


# ------------------------------------------------------------------------------------- cell_batch


class Accelerator:
    platform, device_kind = "gpu", "a GPU"

    def __init__(self, limit):
        self.limit = limit

    def memory_stats(self):
        return {"bytes_limit": self.limit}


def test_a_cpu_trains_one_cell_at_a_time():
    assert default_cell_batches(plan()) == (1, 1)


def test_an_accelerator_trains_as_many_cells_side_by_side_as_fit(monkeypatch):
    run = plan(Sweep(l1=[0.01 * (1 + i) for i in range(6)], ratio=16, seeds=(0, 1, 2)))
    chosen = {}
    for limit in np.linspace(4e6, 2.5e7, 80).astype(int).tolist():
        monkeypatch.setattr(jax, "local_devices", lambda at=limit: [Accelerator(at)])
        (chosen[limit],) = default_cell_batches(run)
    # Four or five of six cells would be two blocks as three are, and need more.
    assert set(chosen.values()) == {1, 2, 3, 6, 12, 18}
    assert list(chosen.values()) == sorted(chosen.values())
    for limit, k in chosen.items():
        monkeypatch.setattr(jax, "local_devices", lambda at=limit: [Accelerator(at)])
        if k > 1:
            assert needs(replace(run, cell_batches=(k,))) <= 0.85 * limit


def test_narrow_groups_choose_first(monkeypatch):
    run = plan(Sweep(l1=(0.1, 0.2, 0.3, 0.4), ratio=(16, 1)), batch_size=1024)
    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator(1)])
    limit = int(needs(replace(run, cell_batches=(2, 2))) / 0.85) + 1
    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator(limit)])
    # The wide one, if it were asked first, would take two.
    assert default_cell_batches(run) == (1, 4)


def test_memory_is_the_accelerators_or_the_machines(monkeypatch, tmp_path):
    monkeypatch.setattr(capacity, "CGROUP", str(tmp_path / "memory.max"))
    here = capacity.device_memory()
    with open("/proc/meminfo", encoding="ascii") as file:
        machine = 1024 * int(re.search(r"MemTotal:\s+(\d+)", file.read())[1])
    assert here == pytest.approx(machine, rel=0.01)
    for text, expected in (("12345\n", 12345), ("max\n", here), ("9" * 20, here)):
        (tmp_path / "memory.max").write_text(text)
        assert capacity.device_memory() == expected
    monkeypatch.delattr(os, "sysconf")
    assert capacity.device_memory() is None
    check_fits(plan())
    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator(123)])
    assert capacity.device_memory() == 123


def test_devices_of_a_cpu_share_its_memory_and_the_program(monkeypatch):
    two = replace(plan(), layout=Layout(1, 2, 1))
    one = estimate(two)
    both = 2 * one.total - one.program
    assert fits_in(monkeypatch, two, both)
    with pytest.raises(ValueError, match="allowed"):
        fits_in(monkeypatch, two, both - 2)


def test_every_device_has_whole_batches_of_all_sources(monkeypatch):
    run = plan(Sweep(l1=(0.1, 0.2), ratio=1, seeds=(0, 1)), batch_size=4096)
    spread = estimate(replace(run, layout=Layout(2, 1, 1))).batches
    assert spread == estimate(run).batches
