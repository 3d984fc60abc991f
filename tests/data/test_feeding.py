"""Training on a store: the host reads the batches of each chunk, and a plain loop gives the
same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.groups import plain_step

from saejax import SAEConfig, Settings, Sweep, train
from saejax.core.keys import stream
from saejax.data.source import FullBatch
from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.data.store.writer import StoreWriter
from saejax.sae.revival import Resample
from saejax.training.batches import Inputs
from saejax.training.cells import hypers, init_cells, transpose_decoder
from saejax.training.planning import make_plan
from saejax.training.state import centers, start

SWEEP = Sweep(l1=(0.01, 0.1), ratio=(1, 2), seeds=(0, 3), resample=("on", "off"))
PLAIN = Sweep(l1=0.1, ratio=1)


def settings(**changes):
    fixed = {"steps": 12, "batch_size": 8, "eval_every": 4, "eval_batches": 2}
    sae = SAEConfig(use_b_dec=True, l1_reduction="sum")
    return Settings(**(fixed | {"sae": sae} | changes))


def source(path, seed=0, per_shard=16, dtype="float32"):
    x = np.random.default_rng(seed).normal(size=(200, 6)).astype(np.float32)
    own = StoreConfig({}, "h", 6, dtype=dtype, rows_per_shard=per_shard, has_tokens=False)
    with StoreWriter(path, own) as writer:
        writer.append(x)
        writer.finish()
    return StoreSource(Store.open(path), held_out=0.2)


def test_a_sweep_on_stores_is_a_plain_loop_over_their_batches(tmp_path):
    data = {"a": source(tmp_path / "a", dtype="bfloat16"), "b": source(tmp_path / "b", seed=1)}
    chosen = settings(resample=Resample(every=4))
    result = train(SWEEP, data, chosen, progress=False)
    plan, seeds, hyper = (
        make_plan(SWEEP, data, chosen),
        jnp.array(SWEEP.seeds),
        hypers(SWEEP.parts[0]),
    )
    for width, d_sae in enumerate(plan.d_sae):
        cells = init_cells(seeds.astype(jnp.uint32), 2, plan.n_hypers[0], 6, d_sae, chosen)
        step = jax.jit(
            lambda cells, x, keys, i: plain_step(chosen, 1)(
                cells, jax.tree.map(jnp.zeros_like, cells), hyper, x, keys, i
            )
        )
        for i in range(chosen.steps):
            x = [s.batch(seed, i, 8) for s in data.values() for seed in SWEEP.seeds]
            keys = [
                jax.random.fold_in(jax.random.fold_in(stream(seed, "resample"), d_sae), i)
                for seed in SWEEP.seeds
            ]
            cells = step(cells, np.stack(x), jnp.stack(keys * 2), jnp.int32(i))
        W_dec = np.asarray(transpose_decoder(cells.params).W_dec).reshape(2, 2, 2, 1, 2, d_sae, 6)
        for index in np.ndindex(2, 2, 2, 1, 2):
            at = (*index[:2], width, *index[2:], 0, 0)
            np.testing.assert_allclose(
                result.load_params(at).W_dec, W_dec[index], rtol=1e-4, atol=1e-5
            )


def test_chunks_and_shards_of_other_lengths_give_the_same_dictionaries(tmp_path):
    one = train(PLAIN, source(tmp_path / "a"), settings(), progress=False)
    other = source(tmp_path / "b", per_shard=77)
    two = train(PLAIN, other, settings(eval_every=12), progress=False)
    for a, b in zip(*(r.load_params((0,) * 8)[:4] for r in (one, two)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_store_and_an_array_train_side_by_side(tmp_path):
    rows = np.random.default_rng(5).normal(size=(50, 6)).astype(np.float32)
    data = {"store": source(tmp_path / "a"), "array": rows}
    both = train(PLAIN, data, settings(snapshot_every=2), progress=False, workdir=tmp_path / "run")
    alone = train(PLAIN, rows, settings(), progress=False)
    np.testing.assert_allclose(
        both.load_params((1, *(0,) * 7)).W_dec,
        alone.load_params((0,) * 8).W_dec,
        rtol=1e-5,
        atol=1e-6,
    )
    assert both.run["data"]["store"]["checksum"] == data["store"].store.checksum


def test_tied_weights_start_at_the_mean_of_each_data_set(tmp_path):
    rows = np.random.default_rng(5).normal(3, 1, size=(8, 6)).astype(np.float32)
    data = {"store": source(tmp_path / "a"), "rows": FullBatch(jnp.array(rows))}
    chosen = settings(sae=SAEConfig(use_b_dec=True, init="tied"))
    sweep = Sweep(l1=(0.01, 0.1, 1), ratio=(1, 2), seeds=(0, 3))
    b_dec = start(make_plan(sweep, data, chosen))[0].cells[1].params.b_dec
    want = np.repeat([data["store"].store.mean(), rows.mean(0)], 2, axis=0)
    np.testing.assert_allclose(b_dec, np.broadcast_to(want[:, None], (4, 3, 6)), rtol=1e-5)
    for other in (SAEConfig(init="tied"), SAEConfig(use_b_dec=True)):
        plan = make_plan(sweep, data, settings(sae=other))
        assert centers(plan, Inputs({}, jnp.arange(2), ())) is None


def test_an_evaluation_larger_than_the_held_out_rows_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="held-out rows: got 48, allowed: up to 40"):
        train(
            PLAIN,
            source(tmp_path / "a"),
            settings(eval_batches=6),
            progress=False,
            workdir=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
