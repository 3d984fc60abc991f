"""Axes of a sweep, and its cells against plain loops and NumPy: map, step, freeze, resample."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from saejax import Resample, SAEConfig, Settings, Sweep
from saejax.core import linalg
from saejax.core.keys import STREAMS, stream
from saejax.results.axes import AXES, MAX_LR
from saejax.sae import params
from saejax.sae.params import Params
from saejax.sae.registry import JumpReLU, ReLU, TopK
from saejax.sae.revival import ANTHROPIC, OFF, ON
from saejax.training.cells import Cells, Hyper, hypers, init_cells, public
from saejax.training.map_cells import map_cells
from saejax.training.step import MAX_GRADIENT, resample_cell, step_cell, step_group

NAN, INF = float("nan"), float("inf")


# ---------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize(
    ("kwargs", "got", "allowed"),
    [
        ({"l1": ()}, "no value", "at least one"),
        ({"ratio": []}, "no value", "at least one"),
        ({"seeds": ()}, "no value", "at least one"),
        ({"lr": ()}, "no value", "at least one"),
        ({"resample": ()}, "no value", "at least one"),
        ({"l1": (0.1, -0.1)}, "-0.1", "0 or more"),
        ({"l1": (0.1, NAN)}, "nan", "0 or more"),
        ({"l1": INF}, "inf", "0 or more"),
        ({"ratio": 0}, "0", "above 0"),
        ({"ratio": (1, -2)}, "-2", "above 0"),
        ({"ratio": NAN}, "nan", "above 0"),
        ({"seeds": -1}, "-1", "0 to 2**32 - 1"),
        ({"seeds": 2**32}, "4294967296", "0 to 2**32 - 1"),
        ({"lr": 0.0}, "0.0", "above 0"),
        ({"lr": (1e-3, NAN)}, "nan", "above 0"),
        ({"l1": (0.1, 0.2, 0.1)}, "(0.1, 0.2, 0.1)", "each value once"),
        ({"ratio": (1, 1.0)}, "(1.0, 1.0)", "each value once"),
        ({"seeds": (3, 3)}, "(3, 3)", "each value once"),
        ({"lr": (1e-3, 1e-3)}, "(0.001, 0.001)", "each value once"),
        ({"resample": ("on", "on")}, "('on', 'on')", "each value once"),
        ({"l1": (0.5, 0.1234567, 0.1234568)}, "0.1234567 and 0.1234568", "differ by more than"),
        ({"l1": 1e19}, "1e+19", "up to 1e18"),
        ({"lr": 1e16}, "1e+16", "up to 1e15"),
    ],
    ids=str,
)
def test_bad_axis_names_argument_value_and_allowed(kwargs, got, allowed):
    (name,) = kwargs
    with pytest.raises(ValueError, match=name) as error:
        Sweep(**kwargs)
    message = str(error.value)
    assert message.startswith(f"{name}: got {got}, allowed: ")
    assert allowed in message.split("allowed: ")[1]


@pytest.mark.parametrize(("base", "name"), [(6, "n_features"), (9, "d_in")])
def test_ratio_must_give_a_whole_number_of_latents(base, name):
    with pytest.raises(ValueError, match=r"ratio: got 0\.25") as error:
        Sweep(ratio=(1, 0.25)).widths(base, name)
    assert f"{base / 4:g} latents with {name}={base}" in str(error.value)
    assert "whole number" in str(error.value)


def test_ratio_must_give_at_least_one_latent():
    with pytest.raises(ValueError, match="1 or more"):
        Sweep(ratio=1e-9).widths(8)


def test_widths_follow_the_order_of_the_ratios():
    assert Sweep(ratio=(2, 0.25, 1)).widths(8) == (16, 2, 8)
    assert Sweep(ratio=(1 / 3, 2 / 3)).widths(9) == (3, 6)
    assert Sweep().widths(512) == (128, 256, 512, 1024, 2048, 4096, 8192, 16384)


def test_defaults_are_the_published_axes():
    sweep = Sweep()
    np.testing.assert_allclose(sweep.l1, 10 ** (np.arange(-8, -2) / 4), rtol=1e-6)
    assert sweep.ratio == (0.25, 0.5, 1, 2, 4, 8, 16, 32)
    assert (sweep.seeds, sweep.lr, sweep.resample) == ((0,), (1e-3,), ("off",))
    assert (sweep.architecture, sweep.k) == (("relu",), (0,))


def test_one_number_is_an_axis_of_one_value():
    sweep = Sweep(l1=0, ratio=2, seeds=7, lr=0.1, resample="on")
    assert sweep == Sweep(l1=(0.0,), ratio=(2.0,), seeds=(7,), lr=(0.1,), resample=("on",))


def test_coords_come_in_the_order_of_the_axes():
    sweep = Sweep(l1=(0.1, 0.2), ratio=(1, 2), seeds=(5, 4), lr=0.1, resample=("off", "on"))
    coords = sweep.coords(["b", "a"])
    assert tuple(coords) == AXES
    assert AXES == ("dataset", "seed", "ratio", "l1", "lr", "resample", "architecture", "k")
    assert list(coords.values()) == [
        ("b", "a"),
        (5, 4),
        (1.0, 2.0),
        (0.1, 0.2),
        (0.1,),
        ("off", "on"),
        ("relu",),
        (0,),
    ]


def test_hypers_are_the_product_of_l1_lr_and_resample():
    sweep = Sweep(l1=(0.5, 0.25), lr=(1, 2, 3), resample=("ghost", "off", "on", "anthropic"))
    got = hypers(sweep.parts[0])
    expected = [(a, b, c, 0) for a in (0.5, 0.25) for b in (1, 2, 3) for c in (3, 0, 1, 2)]
    assert list(zip(*(a.tolist() for a in got), strict=True)) == expected


# ---------------------------------------------------------------------------------------- parts


def test_every_architecture_has_the_values_that_it_reads():
    sweep = Sweep(
        l1=(0.1, 0.2),
        k=(3, 2),
        lr=(1e-3, 1e-2),
        resample=("off", "auxk", "ghost", "on"),
        architecture=("topk", "relu", "jumprelu"),
    )
    topk, relu, jumprelu = sweep.parts
    assert [part.architecture.name for part in sweep.parts] == ["topk", "relu", "jumprelu"]
    assert (topk.l1, relu.l1, jumprelu.l1) == ((0.0,), (0.1, 0.2), (0.1, 0.2))
    assert (topk.k, relu.k, jumprelu.k) == ((3, 2), (0,), (0,))
    assert topk.resample == ("off", "auxk", "on")
    assert relu.resample == ("off", "ghost", "on")
    assert jumprelu.resample == ("off", "on")
    assert topk.lr == relu.lr == jumprelu.lr == (1e-3, 1e-2)
    assert topk.hypers == [
        (0.0, a, b, c) for a in (1e-3, 1e-2) for b in topk.resample for c in (3, 2)
    ]
    got = hypers(topk)
    assert (got.k.tolist(), got.l1.tolist()) == ([3, 2] * 6, [0] * 12)
    assert got.resample.tolist() == [0, 0, 4, 4, 1, 1] * 2


def test_axes_are_the_unions_of_those_of_the_parts():
    sweep = Sweep(
        l1={"jumprelu": 1e-3, "relu": (0.1, 1e-3)},
        k={"topk": (2, 4), "batchtopk": 8},
        resample={"topk": "auxk", "batchtopk": "off", "relu": ("ghost", "off"), "jumprelu": "off"},
        architecture=("topk", "batchtopk", "relu", "jumprelu"),
    )
    coords = sweep.coords(["a"])
    assert (coords["l1"], coords["k"]) == ((0.0, 1e-3, 0.1), (0, 2, 4, 8))
    assert coords["resample"] == ("auxk", "off", "ghost")
    assert coords["architecture"] == ("topk", "batchtopk", "relu", "jumprelu")
    assert [part.l1 for part in sweep.parts] == [(0.0,), (0.0,), (0.1, 1e-3), (1e-3,)]
    assert [part.k for part in sweep.parts] == [(2, 4), (8,), (0,), (0,)]


def test_a_sweep_of_topks_alone_has_one_l1_of_zero():
    assert (Sweep(architecture="topk", k=4).l1, Sweep(architecture="topk", k=4).k) == ((0.0,), (4,))
    assert Sweep(architecture=("relu", "topk"), k=4).l1 == (0.0, *Sweep().l1)


def test_an_architecture_may_stand_twice_under_two_names():
    wide = JumpReLU(name="wide", bandwidth=0.1)
    sweep = Sweep(architecture=(wide, "jumprelu"), l1={"wide": 0.1, "jumprelu": 0.2})
    assert sweep.architecture == ("wide", "jumprelu")
    assert sweep.parts[0].architecture == wide
    with pytest.raises(
        ValueError, match=r"architecture: got the names \('relu', 'relu'\), allowed"
    ):
        Sweep(architecture=("relu", JumpReLU(name="relu")))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"architecture": ()}, "architecture: got no value, allowed: at least one"),
        ({"architecture": "relus"}, "architecture: got 'relus', allowed: one of relu, topk, "),
        ({"architecture": TopK}, "architecture: got <class .*TopK'>, allowed: one of relu"),
        ({"architecture": ("topk", "relu")}, "k: got nothing, allowed with topk: whole numbers"),
        ({"architecture": "topk", "k": 0}, "k: got 0, allowed: a whole number, 1 or more"),
        ({"architecture": "topk", "k": (4, 1.5)}, r"k: got 1\.5, allowed: a whole number"),
        ({"architecture": "topk", "k": (4, 4)}, r"k: got \(4, 4\), allowed: each value once"),
        ({"k": 4}, "k: got 4, allowed: nothing, because no architecture reads it"),
        (
            {"architecture": "topk", "k": 4, "l1": 0.1},
            r"l1: got 0\.1, allowed: nothing, because no architecture reads it",
        ),
        ({"l1": {"relu": ()}}, "l1 of relu: got no value, allowed: at least one"),
        ({"l1": {"relu": (0.1, -1)}}, "l1 of relu: got -1, allowed: a number, 0 or more"),
        ({"l1": {"topk": 0.1}}, "l1: got values for topk, allowed: for relu$"),
        (
            {"l1": {"relu": 0.1}, "architecture": ("relu", "gated")},
            "l1: got values for relu, allowed: for relu, gated$",
        ),
        (
            {"l1": {"relu": 0.1, "gated": 0.10001}, "architecture": ("relu", "gated")},
            r"l1: got 0\.1 and 0\.10001, allowed: values that differ by more",
        ),
        (
            {"resample": {"relu": "auxk"}},
            "resample: got auxk, allowed for relu: off, on, anthropic, ghost",
        ),
        (
            {"resample": "ghost", "architecture": ("relu", "topk"), "k": 4},
            "resample: got ghost, allowed for topk: off, on, anthropic, auxk",
        ),
        (
            {"resample": ("off", "ghost"), "architecture": ("topk", "jumprelu"), "k": 4},
            "resample: got 'ghost', allowed for topk, jumprelu: off, on, anthropic, auxk$",
        ),
        ({"resample": {"relu": "of"}}, "resample of relu: got 'of', allowed: one of off, on"),
    ],
    ids=str,
)
def test_axes_that_do_not_fit_the_architectures_are_refused(kwargs, message, unchecked):
    with pytest.raises(ValueError, match=message):
        Sweep(**kwargs)


def test_architectures_of_one_seed_start_from_the_same_weights():
    def start_of(architecture):
        f = jax.jit(
            lambda seeds: init_cells(seeds, 1, 2, 4, 6, Settings(), architecture=architecture)
        )
        return f(jnp.array([0, 7], jnp.uint32)).params

    relu, jumprelu = start_of(ReLU()), start_of(JumpReLU(initial_threshold=0.5))
    for name in ("W_enc", "b_enc", "W_dec"):
        np.testing.assert_array_equal(getattr(relu, name), getattr(jumprelu, name))
    assert relu.log_threshold is None
    np.testing.assert_allclose(jumprelu.log_threshold, np.full((2, 2, 6), np.log(0.5)), rtol=1e-6)


def test_streams_of_all_seeds_and_names_differ():
    keys = [
        jax.random.key_data(stream(s, n)).tobytes() for s, n in product((0, 1, 2**32 - 1), STREAMS)
    ]
    assert len(set(keys)) == 3 * len(STREAMS)


# ---------------------------------------------------------------------------------------- init


def key_of(seed, d_sae):
    own = jax.random.fold_in(jax.random.key(np.uint32(seed)), STREAMS.index("init"))
    return jax.random.fold_in(own, d_sae)


def fresh(seeds, n_datasets, n_hyper, d_sae, settings):
    """Jitted `init_cells` of width-4 inputs."""
    f = jax.jit(lambda seeds: init_cells(seeds, n_datasets, n_hyper, 4, d_sae, settings))
    return f(jnp.array(seeds, jnp.uint32))


@pytest.mark.parametrize("use_b_dec", [False, True])
def test_init_is_that_of_a_single_sae(use_b_dec):
    settings = Settings(sae=SAEConfig(use_b_dec=use_b_dec))
    seeds, d_in, d_sae = (0, 7), 4, 6
    cells = fresh(seeds, 2, 3, d_sae, settings)
    got = public(cells.params)
    assert (got.b_dec is not None) == use_b_dec
    single = jax.jit(lambda key: params.init(key, d_in, d_sae, settings.sae))
    for s, seed in enumerate(seeds):
        for name, expected in single(key_of(seed, d_sae))._asdict().items():
            if expected is not None:
                for d, h in product(range(2), range(3)):
                    mine = getattr(got, name)[d * 2 + s, h]
                    np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    assert cells.frozen_at.shape == (4, 3)
    assert (np.asarray(cells.frozen_at) == -1).all()
    assert cells.silent is None
    assert not any(np.any(a) for a in jax.tree.leaves(cells.opt))


def test_init_depends_on_seed_and_width_only():
    many = Settings(steps=10, eval_every=5, batch_size=7, resample=Resample(every=3, window=1))
    one, several, other_width = (
        np.asarray(fresh(*arguments).params.W_enc)
        for arguments in (
            ([7], 1, 1, 6, Settings()),
            ([3, 7], 3, 2, 6, many),
            ([7], 1, 1, 8, Settings()),
        )
    )
    several = several.reshape(3, 2, 2, 4, 6)
    shape = several[:, 1].shape
    np.testing.assert_allclose(several[:, 1], np.broadcast_to(one[0, 0], shape), rtol=1e-6)
    assert not np.allclose(several[:, 0], several[:, 1], atol=0.1)
    assert not np.allclose(other_width[..., :6], one, atol=0.1)


# ---------------------------------------------------------------------------------------- map


@pytest.mark.parametrize("given_buffers", [False, True])
@pytest.mark.parametrize(("n_source", "n_hyper"), [(2, 3), (3, 2)])
def test_map_equals_a_loop_for_every_cell_batch(n_source, n_hyper, given_buffers):
    n = n_source * n_hyper
    a = np.arange(n * 4, dtype=np.float32).reshape(n_source, n_hyper, 4)
    parts = np.arange(n_source * 2, dtype=np.float32).reshape(n_source, 2) + 1
    l1 = np.arange(n_hyper, dtype=np.float32) + 2
    hyper = Hyper(
        jnp.array(l1), jnp.array(l1 * 10), jnp.array(l1 > 2, jnp.int32), jnp.array(l1 + 7)
    )

    def f(cell, hyper, part):
        number = jnp.where(hyper.resample == 1, cell[0].astype(jnp.int32), -1)
        return {
            "sum": cell * hyper.l1 + part.sum(),
            "pair": (hyper.lr + part[1], number),
            "k": hyper.k,
        }

    total = np.zeros((n_source, n_hyper, 4), np.float32)
    pair = np.zeros((n_source, n_hyper), np.float32), np.zeros((n_source, n_hyper), np.int32)
    for s, h in product(range(n_source), range(n_hyper)):
        total[s, h] = a[s, h] * l1[h] + parts[s].sum()
        pair[0][s, h] = 10 * l1[h] + parts[s][1]
        pair[1][s, h] = a[s, h, 0] if l1[h] > 2 else -1
    expected = {"sum": total, "pair": pair, "k": np.broadcast_to(l1 + 7, (n_source, n_hyper))}

    into = None
    if given_buffers:
        into = jax.tree.map(lambda e: jnp.full(e.shape, 99, e.dtype), expected)
    for cell_batch in range(1, n + 2):
        got = jax.jit(partial(map_cells, f, cell_batch=cell_batch))(
            jnp.array(a), hyper, jnp.array(parts), into=into
        )
        jax.tree.map(np.testing.assert_array_equal, got, expected)


# ---------------------------------------------------------------------------------------- step


def numpy_step(p, mu, nu, count, x, l1, lr, config):
    """One step in float64: forward, gradient, Adam and projection, each as the textbook has it."""
    batch, d_in = x.shape
    d_sae = len(p["b_enc"])
    b_dec = p.get("b_dec", np.zeros(d_in))
    pre = (x - b_dec) @ p["W_enc"] + p["b_enc"]
    h = np.maximum(pre, 0)
    error = h @ p["W_dec"] + b_dec - x
    scale = 1 / d_sae if config.l1_reduction == "mean" else 1.0

    d_x_hat = 2 * error / (batch * d_in)
    d_pre = (d_x_hat @ p["W_dec"].T + l1 * scale / batch) * (pre > 0)
    grads = {"W_enc": (x - b_dec).T @ d_pre, "b_enc": d_pre.sum(0), "W_dec": h.T @ d_x_hat}
    if "b_dec" in p:
        grads["b_dec"] = d_x_hat.sum(0) - (d_pre @ p["W_enc"].T).sum(0)

    t = count + 1
    new, new_mu, new_nu = {}, {}, {}
    for name, g in grads.items():
        new_mu[name] = 0.9 * mu[name] + 0.1 * g
        new_nu[name] = 0.999 * nu[name] + 0.001 * g**2
        m_hat, v_hat = new_mu[name] / (1 - 0.9**t), new_nu[name] / (1 - 0.999**t)
        new[name] = p[name] - lr * m_hat / (np.sqrt(v_hat) + 1e-8)
    if config.unit_norm:
        new["W_dec"] /= np.sqrt((new["W_dec"] ** 2).sum(1, keepdims=True))
    return new, new_mu, new_nu


@cache
def jitted_step(config):
    return jax.jit(partial(step_cell, settings=Settings(sae=config)))


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("use_b_dec", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("count", [0, 3])
def test_one_step_is_adam_on_the_gradient_by_hand(reduction, use_b_dec, unit_norm, count):
    config = SAEConfig(l1_reduction=reduction, use_b_dec=use_b_dec, unit_norm=unit_norm)
    rng = np.random.default_rng(3)
    d_in, d_sae, batch, l1, lr = 5, 7, 11, 0.07, 0.02
    shapes = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in)}
    shapes |= {"b_dec": (d_in,)} if use_b_dec else {}
    p, mu, nu = ({k: rng.normal(size=s) * 0.5 for k, s in shapes.items()} for _ in range(3))
    p["W_dec"] /= np.linalg.norm(p["W_dec"], axis=1, keepdims=True)
    mu = {k: v * 0.1 * (count > 0) for k, v in mu.items()}
    nu = {k: v**2 * 0.1 * (count > 0) for k, v in nu.items()}
    x = rng.normal(size=(batch, d_in))

    def stored(tree):
        return public(Params(**{k: jnp.array(v, jnp.float32) for k, v in tree.items()}))

    opt = optax.ScaleByAdamState(jnp.array(count, jnp.int32), stored(mu), stored(nu))  # pyright: ignore
    cell = Cells(stored(p), opt, jnp.array(-1, jnp.int32), None)
    hyper = Hyper(jnp.float32(l1), jnp.float32(lr), jnp.int32(OFF), jnp.float32(0))
    after = jitted_step(config)(cell, hyper, jnp.array(x, jnp.float32), jnp.int32(count))

    expected = numpy_step(p, mu, nu, count, x, l1, lr, config)
    for got, want in zip((after.params, after.opt.mu, after.opt.nu), expected, strict=True):
        for name, value in want.items():
            mine = getattr(public(got), name)
            np.testing.assert_allclose(mine, value, rtol=2e-4, atol=2e-6, err_msg=name)
    assert int(after.opt.count) == count + 1
    assert int(after.frozen_at) == -1


# ---------------------------------------------------------------------------------------- group

N_SOURCE, N_HYPER, D_IN, D_SAE, BATCH = 2, 3, 5, 8, 9
RULE = Resample(every=3, window=2)
REVIVING = Settings(resample=RULE)
HYPER = Hyper(
    jnp.array([0.01, 0.1, 1.0]),
    jnp.array([1e-3, 1e-2, 2e-2]),
    jnp.array([ON, OFF, ANTHROPIC]),
    jnp.zeros(3),
)


def start(settings, seeds=(1, 2), dead=(), n_hyper=N_HYPER):
    cells = init_cells(jnp.array(seeds, jnp.uint32), 1, n_hyper, D_IN, D_SAE, settings)
    b_enc = cells.params.b_enc.at[:, :, jnp.array(dead, jnp.int32)].set(-100.0)
    return cells._replace(params=cells.params._replace(b_enc=b_enc))


def batches(n, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, N_SOURCE, BATCH, D_IN))
    return jnp.array(x, jnp.float32)


def source_keys(step):
    return jax.random.split(jax.random.fold_in(jax.random.key(11), step), N_SOURCE)


def group_step(settings, cell_batch):
    return jax.jit(partial(step_group, settings=settings, cell_batch=cell_batch))


def at(tree, *index):
    return jax.tree.map(lambda a: a[index], tree)


@pytest.fixture(scope="module")
def three_steps_of_single_cells():
    x = batches(3)
    one = jax.jit(partial(step_cell, settings=REVIVING))
    revive = jax.jit(partial(resample_cell, settings=REVIVING))
    out = {}
    for s, h in product(range(N_SOURCE), range(N_HYPER)):
        cell, hyper = at(start(REVIVING, dead=(2, 5)), s, h), at(HYPER, h)
        for i in range(3):
            cell = one(cell, hyper, x[i, s], jnp.int32(i))
        out[s, h] = revive(cell, hyper, x[2, s], source_keys(2)[s])
    return out


@pytest.mark.parametrize("cell_batch", [1, 2, 6])
def test_group_equals_a_loop_over_single_cells(cell_batch, three_steps_of_single_cells):
    x = batches(3)
    step = group_step(REVIVING, cell_batch)
    cells = start(REVIVING, dead=(2, 5))
    into = jax.tree.map(lambda a: jnp.full_like(a, 99), cells)
    for i in range(3):
        cells = step(cells, into, HYPER, x[i], source_keys(i), jnp.int32(i))
    for (s, h), alone in three_steps_of_single_cells.items():
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), at(cells, s, h), alone
        )


# ---------------------------------------------------------------------------------------- freeze


@pytest.fixture(scope="module", params=[1, 6], ids=["map", "vmap"])
def plain(request):
    return group_step(Settings(), request.param)


def run(step, cells, hyper, x, first=0):
    """The states after every step, the start included."""
    states = [cells]
    for i in range(len(x)):
        n = first + i
        cells = step(cells, cells, hyper, x[i], source_keys(n), jnp.int32(n))
        states.append(cells)
    return states


def same(a, b):
    """Whether two states hold the same bits (NaN equals NaN)."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(u).tobytes() == np.asarray(v).tobytes() for u, v in leaves)


def test_too_large_a_step_freezes_that_cell_alone(plain):
    x = batches(5)
    ok = HYPER._replace(lr=jnp.array([1e-3, 1e-3, 2e-2]))
    bad = HYPER._replace(lr=jnp.array([1e-3, 1e15, 2e-2]))
    healthy, run_with_bad = (run(plain, start(Settings()), h, x, first=20) for h in (ok, bad))
    for s in range(N_SOURCE):
        states = [at(cells, s, 1) for cells in run_with_bad]
        assert [int(c.frozen_at) for c in states] == [-1, -1, 21, 21, 21, 21]
        assert all(np.isfinite(a).all() for a in jax.tree.leaves(states[-1]))
        for later in states[2:]:
            assert same(later._replace(frozen_at=states[1].frozen_at), states[1])
        for h in (0, 2):
            assert all(
                same(at(a, s, h), at(b, s, h)) for a, b in zip(healthy, run_with_bad, strict=True)
            )


def test_adam_moves_no_weight_by_more_than_7_3_rates():
    # Gradients growing by b2 / b1 are the worst case of the Cauchy-Schwarz bound in `MAX_LR`.
    n = 300
    gradients = jnp.array((0.999 / 0.9) ** np.arange(-n, 0.0), jnp.float32)

    def one(state, gradient):
        update, state = optax.scale_by_adam().update(gradient, state)
        return state, update

    # Adam counts on while a revived latent's moments start anew: so late, nothing is corrected.
    fresh = optax.scale_by_adam().init(jnp.float32(0))._replace(count=jnp.int32(100_000))  # pyright: ignore
    for state in (fresh, fresh._replace(count=jnp.int32(0))):
        _, updates = jax.lax.scan(one, state, gradients)
        assert np.abs(updates).max() < 7.3
    _, updates = jax.lax.scan(one, fresh, gradients)
    assert np.abs(updates).max() > 7.2


def test_a_row_moved_at_the_largest_rate_is_still_projected_to_norm_1():
    rows = 1 + 7.3 * MAX_LR * jnp.ones((1, 6_000_000))
    np.testing.assert_allclose(np.linalg.norm(np.float64(linalg.unit_rows(rows))), 1, rtol=1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e6, 1e15])
def test_the_largest_rate_leaves_unit_rows_and_finite_state_or_freezes(plain, scale):
    hyper = HYPER._replace(lr=jnp.full(N_HYPER, MAX_LR))
    states = run(plain, start(Settings()), hyper, batches(12) * scale)
    for cells in states:
        assert all(np.isfinite(a).all() for a in jax.tree.leaves((cells.params, cells.opt)))
        norms = np.linalg.norm(np.float64(cells.params.W_dec), axis=-2)
        np.testing.assert_allclose(norms, 1, rtol=1e-5)
    moved = np.abs(states[1].params.W_enc).max()
    assert (moved > 1e9) == (scale < 1e10)


def test_adam_holds_the_square_of_the_largest_gradient_and_not_of_twice_it():
    adam = optax.scale_by_adam()
    for gradient, finite in ((MAX_GRADIENT, True), (2 * MAX_GRADIENT, False)):
        _, state = adam.update(jnp.float32(gradient), adam.init(jnp.float32(0)))  # pyright: ignore
        assert bool(np.isfinite(state.nu)) == finite  # pyright: ignore


@pytest.mark.parametrize("leaf", ["W_enc", "W_dec"])
def test_a_gradient_whose_square_overflows_freezes_that_cell_alone(plain, leaf):
    x = batches(3)
    cells = start(Settings())
    if leaf == "W_enc":
        x, hyper, broken = (
            x * 1e5,
            HYPER._replace(l1=jnp.array([0.01, 1e18, 1.0])),
            (slice(None), 1),
        )
    else:
        hyper, broken = HYPER, (0, 2)
        b_enc = cells.params.b_enc.at[broken].set(1e11)
        cells = cells._replace(params=cells.params._replace(b_enc=b_enc))
    expected = np.full((N_SOURCE, N_HYPER), -1)
    expected[broken] = 0
    states = run(plain, cells, hyper, x)
    np.testing.assert_array_equal(states[-1].frozen_at, expected)
    assert same(at(states[-1].params, *broken), at(cells.params, *broken))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(states[-1].opt))


def test_infinite_weights_freeze_that_cell_alone(plain):
    x = batches(3)
    cells = start(Settings())
    broken = cells.params.W_enc.at[1, 2, 0, 0].set(jnp.inf)
    bad = cells._replace(params=cells.params._replace(W_enc=broken))
    healthy, run_with_bad = (run(plain, c, HYPER, x, first=7) for c in (cells, bad))
    frozen = np.full((N_SOURCE, N_HYPER), -1)
    frozen[1, 2] = 7
    for state in run_with_bad[1:]:
        np.testing.assert_array_equal(state.frozen_at, frozen)
        last = at(state, 1, 2)
        assert same(last._replace(frozen_at=jnp.int32(-1)), at(bad, 1, 2))
    for s, h in product(range(N_SOURCE), range(N_HYPER)):
        if (s, h) != (1, 2):
            assert same(at(healthy[-1], s, h), at(run_with_bad[-1], s, h))


def test_a_frozen_cell_stays_frozen_when_its_data_recover(plain):
    x = batches(4)
    spoilt = x.at[1, 0, 3, 2].set(jnp.nan)
    healthy, states = (run(plain, start(Settings()), HYPER, b) for b in (x, spoilt))
    np.testing.assert_array_equal(states[-1].frozen_at, [[1] * N_HYPER, [-1] * N_HYPER])
    assert same(at(states[-1].params, 0), at(states[1].params, 0))
    assert same(at(states[-1].opt, 0), at(states[1].opt, 0))
    assert same(at(states[-1], 1), at(healthy[-1], 1))


# ---------------------------------------------------------------------------------------- resample

EVERY = 4


@pytest.fixture(scope="module", params=[1, 4], ids=["map", "vmap"])
def two_cycles(request):
    """Eight steps in which latent j fires exactly when input j is on, with resampling off and on.

    Steps      0 1 2 3   4 5 6 7
    latent 0   on  . .   . . . .     silent in both windows of 2
    latent 1   . . on.   . . . .     silent in the second window
    latent 2   . . . on  . . . .     silent in the second window
    latent 3   . . . .   . . . .     silent throughout
    latent 4   on throughout
    """
    settings = Settings(resample=Resample(every=EVERY, window=2))
    cells = init_cells(jnp.array([1, 2], jnp.uint32), 1, 2, D_IN, D_IN, settings)
    eye = jnp.broadcast_to(jnp.eye(D_IN), cells.params.W_enc.shape)
    params = Params(W_enc=eye, b_enc=jnp.full_like(cells.params.b_enc, -0.2), W_dec=eye)
    cells = cells._replace(params=params)
    on = np.zeros((2 * EVERY, D_IN))
    on[:2, 0] = on[2, 1] = on[3, 2] = on[:, 4] = 1
    strength = np.random.default_rng(0).uniform(0.5, 1, (2 * EVERY, N_SOURCE, BATCH, D_IN))
    x = jnp.array(strength * on[:, None, None], jnp.float32)
    step = group_step(settings, request.param)
    rates = {"l1": jnp.array([0.1, 0.1]), "lr": jnp.array([1e-3, 1e-3]), "k": jnp.zeros(2)}
    off, half = (Hyper(**rates, resample=jnp.array(r)) for r in ([OFF, OFF], [OFF, ON]))
    return run(step, cells, off, x), run(step, cells, half, x), x, settings.resample.bias


def revived(before, after, bias):
    """Mask [source, hyper, latent] of the latents whose bias was set anew."""
    return (np.asarray(after.params.b_enc) == np.float32(bias)) & (
        np.asarray(before.params.b_enc) != np.float32(bias)
    )


def test_resampling_happens_at_multiples_in_cells_with_it_on_to_dead_latents(two_cycles):
    _, states, _, bias = two_cycles
    dead = {EVERY: [0, 3], 2 * EVERY: [1, 2]}
    for done in range(1, 2 * EVERY + 1):
        mask = revived(states[done - 1], states[done], bias)
        expected = np.zeros_like(mask)
        expected[:, 1, dead.get(done, [])] = True
        subset = mask[:, :, [1, 2, 4]] if done > EVERY else mask
        wanted = expected[:, :, [1, 2, 4]] if done > EVERY else expected
        np.testing.assert_array_equal(subset, wanted, err_msg=f"after {done} steps")


def test_resampling_touches_nothing_but_dead_latents(two_cycles):
    off, on, _, _ = two_cycles
    for done in range(EVERY):
        assert same(off[done]._replace(silent=None), on[done]._replace(silent=None))
    for a, b in zip(off, on, strict=True):
        assert same(at(a, slice(None), 0), at(b, slice(None), 0))
    alive = np.array([1, 2, 4])
    a, b = (at(states[EVERY], slice(None), 1) for states in (off, on))
    for pick in (lambda c: c.params, lambda c: c.opt.mu, lambda c: c.opt.nu):
        assert same(jax.tree.map(lambda v: v[..., alive], pick(a)), pick(at(b, ..., alive)))
    assert same(a.opt.count, b.opt.count)


def test_silence_is_counted_in_the_windows_of_cells_with_it_on(two_cycles):
    off, on, _, _ = two_cycles
    counts = {3: [1, 0, 1, 1, 0], 4: [2, 1, 0, 2, 0], 7: [1, 1, 0], 8: [2, 2, 0]}
    for done in range(2 * EVERY + 1):
        assert not np.any(off[done].silent)
        assert not np.any(on[done].silent[:, 0])
        wanted = counts.get(done, counts[4] if done > EVERY else [0] * D_IN)
        # What the revived latents 0 and 3 do from then on depends on the samples they took.
        got = on[done].silent[:, 1]
        got = got[:, np.array([1, 2, 4])] if len(wanted) == 3 else got
        np.testing.assert_array_equal(got, [wanted] * N_SOURCE, err_msg=f"after {done} steps")


def test_revived_latents_point_at_a_sample_and_forget_their_moments(two_cycles):
    _, states, x, bias = two_cycles
    directions = np.asarray(x[EVERY - 1], np.float64)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    cells = states[EVERY]
    for s, j in product(range(N_SOURCE), (0, 3)):
        w_enc, w_dec = (np.asarray(w)[s, 1, :, j] for w in (cells.params.W_enc, cells.params.W_dec))
        np.testing.assert_allclose(w_enc, w_dec, rtol=1e-6)
        assert np.abs(directions[s] - w_dec).max(1).min() < 1e-6
        assert cells.params.b_enc[s, 1, j] == np.float32(bias)
        for moments in (cells.opt.mu, cells.opt.nu):
            assert not np.any(moments.W_enc[s, 1, :, j])
            assert not np.any(moments.W_dec[s, 1, :, j])
            assert moments.b_enc[s, 1, j] == 0


def test_a_frozen_cell_is_not_resampled():
    settings = Settings(resample=Resample(every=1, window=1))
    x = batches(2)
    cells = start(settings, dead=(0, 1))
    cells = cells._replace(frozen_at=cells.frozen_at.at[0, 0].set(3))
    hyper = HYPER._replace(resample=jnp.array([ON, ON, ON]))
    states = run(group_step(settings, 1), cells, hyper, x, first=5)
    assert same(at(states[-1].params, 0, 0), at(cells.params, 0, 0))
    assert same(at(states[-1].opt, 0, 0), at(cells.opt, 0, 0))
    made_dead = revived(cells, states[1], settings.resample.bias)[:, :, :2]
    assert made_dead.sum() == 2 * (N_SOURCE * N_HYPER - 1)
