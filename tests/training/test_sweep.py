"""Axes of a sweep, and the weights that its cells start from."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.cells import fresh

from saejax import Resample, SAEConfig, Settings, Sweep
from saejax.core.keys import STREAMS, stream
from saejax.results.axes import AXES
from saejax.sae import params
from saejax.sae.registry import JumpReLU, ReLU, TopK
from saejax.training.cells import hypers, init_cells, transpose_decoder

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


@pytest.mark.parametrize("use_b_dec", [False, True])
def test_init_is_that_of_a_single_sae(use_b_dec):
    settings = Settings(sae=SAEConfig(use_b_dec=use_b_dec))
    seeds, d_in, d_sae = (0, 7), 4, 6
    cells = fresh(seeds, 2, 3, d_sae, settings)
    got = transpose_decoder(cells.params)
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
