"""Numbers are numbers: what is none is refused by name, and NumPy's are taken for what they
hold."""

import json
from dataclasses import asdict
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from saejax import Resample, Settings, Sweep, Synthetic
from saejax.core.checks import check_choice, check_number, check_switch, check_whole

pytestmark = pytest.mark.usefixtures("unchecked")

NAN, INF = float("nan"), float("inf")


class Unordered(set):
    """A set that can be part of the name of a test."""


def whole(value):
    return check_whole("n", value, "1 or more", lambda v: v >= 1)


def number(value):
    return check_number("x", value, "any finite number")


# ---------------------------------------------------------------------------------------- helpers


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), jnp.int32(3)])
def test_whole_numbers_of_every_library_become_an_int(value):
    got = whole(value)
    assert (got, type(got)) == (3, int)


@pytest.mark.parametrize(
    "value",
    [
        2.5,
        2.0,
        np.float64(2),
        True,
        np.True_,
        NAN,
        INF,
        "3",
        None,
        [3],
        np.array([3]),
        3j,
        Fraction(3),
    ],
    ids=repr,
)
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match=r"^n: got .*, allowed: 1 or more$"):
        whole(value)


@pytest.mark.parametrize(
    "value",
    [0.5, np.float16(0.5), np.float64(0.5), np.array(0.5), jnp.bfloat16(0.5), Fraction(1, 2)],
)
def test_numbers_of_every_library_become_a_float(value):
    got = number(value)
    assert (got, type(got)) == (0.5, float)


def test_a_whole_number_is_a_number():
    assert [number(v) for v in (2, np.int64(-2), 0)] == [2.0, -2.0, 0.0]
    assert type(number(2)) is float


@pytest.mark.parametrize(
    "value",
    [True, False, np.False_, NAN, -INF, np.float32("inf"), "0.5", b"1", None, (0.5,), {0.5: 1}, 1j],
    ids=repr,
)
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=r"^x: got .*, allowed: any finite number$"):
        number(value)


@pytest.mark.parametrize("sign", [1, -1])
def test_finite_means_finite_in_float32(sign):
    largest = sign * float(np.finfo(np.float32).max)
    assert number(largest) == largest
    for beyond in (largest * (1 + 1e-15), sign * 10**400):
        with pytest.raises(ValueError, match=r"^x: got"):
            number(beyond)


@pytest.mark.parametrize("value", [True, np.True_, np.array(True), jnp.array(True)])
def test_switches_of_every_library_become_a_bool(value):
    assert check_switch("on", value, "True or False") is True


@pytest.mark.parametrize("value", [0, 1, 1.0, "on", None, [True]], ids=repr)
def test_what_is_no_switch_is_refused(value):
    with pytest.raises(ValueError, match=r"^on: got .*, allowed: True or False$"):
        check_switch("on", value, "True or False")


@pytest.mark.parametrize(
    "value", ["ghost", np.str_("ghost"), np.array("ghost")], ids=["str", "np", "0d"]
)
def test_a_name_of_numpy_becomes_a_str(value):
    got = check_choice("way", value, "one of on, ghost", ("on", "ghost"))
    assert (got, type(got)) == ("ghost", str)


@pytest.mark.parametrize(
    "value", ["", "Ghost", "gho", "on,ghost", True, 1, None, ["on"], b"on"], ids=repr
)
def test_what_is_none_of_the_names_is_refused(value):
    with pytest.raises(ValueError, match=r"^way: got .*, allowed: one of on, ghost$"):
        check_choice("way", value, "one of on, ghost", ("on", "ghost"))


def test_the_value_is_shown_as_it_would_be_typed():
    with pytest.raises(ValueError, match=r"^n: got 'many', allowed"):
        whole("many")
    with pytest.raises(ValueError, match=r"^x: got inf, allowed"):
        number(np.float32("inf"))
    with pytest.raises(ValueError, match=r"^n: got -3, allowed"):
        whole(np.int64(-3))


# ---------------------------------------------------------------------------------------- users

WRONG = [
    (Settings, {"steps": True}, "steps: got True, allowed: a whole number, 1 or more"),
    (Settings, {"steps": None}, "steps: got None, allowed: a whole number, 1 or more"),
    (Settings, {"batch_size": "64"}, "batch_size: got '64', allowed: a whole number, 1 or more"),
    (Settings, {"eval_batches": 2.0}, "eval_batches: got 2.0, allowed: a whole number, 1 or more"),
    (Settings, {"cell_batch": True}, "cell_batch: got True, allowed: a whole number, 1 or more"),
    (Settings, {"dead_threshold": "a"}, "dead_threshold: got 'a', allowed: 0 or more (a number)"),
    (Settings, {"dead_threshold": INF}, "dead_threshold: got inf, allowed: 0 or more (a number)"),
    (Settings, {"dead_threshold": True}, "dead_threshold: got True, allowed: 0 or more (a number)"),
    (
        Settings,
        {"track_threshold": None},
        "track_threshold: got None, allowed: above 0, up to 1 (a",
    ),
    (
        Settings,
        {"track_threshold": True},
        "track_threshold: got True, allowed: above 0, up to 1 (a",
    ),
    (Settings, {"matmul_precision": None}, "matmul_precision: got None, allowed: highest, "),
    (Settings, {"sae": None}, "sae: got None, allowed: a SAEConfig"),
    (Settings, {"resample": 100}, "resample: got 100, allowed: a Resample"),
    (Synthetic, {"d_in": 2.5}, "d_in: got 2.5, allowed: 1 or more (a whole number)"),
    (Synthetic, {"d_in": True}, "d_in: got True, allowed: 1 or more (a whole number)"),
    (Synthetic, {"n_features": "8"}, "n_features: got '8', allowed: 1 or more (a whole number)"),
    (Synthetic, {"copula_rank": 2.0}, "copula_rank: got 2.0, allowed: 1 or more (a whole number)"),
    (Synthetic, {"avg_active": "5"}, "avg_active: got '5', allowed: above 0 (a number)"),
    (Synthetic, {"avg_active": INF}, "avg_active: got inf, allowed: above 0 (a number)"),
    (
        Synthetic,
        {"feature_decay": True},
        "feature_decay: got True, allowed: above 0, up to 1 (a numb",
    ),
    (
        Synthetic,
        {"feature_decay": NAN},
        "feature_decay: got nan, allowed: above 0, up to 1 (a numb",
    ),
    (
        Synthetic,
        {"copula_strength": False},
        "copula_strength: got False, allowed: from 0 to below 1",
    ),
    (Synthetic, {"kind": None}, "kind: got None, allowed: uncorrelated, "),
    (
        Resample,
        {"every": 2.5},
        "resample_every: got 2.5, allowed: 0 (never) or more (a whole number)",
    ),
    (
        Resample,
        {"every": True},
        "resample_every: got True, allowed: 0 (never) or more (a whole numb",
    ),
    (
        Resample,
        {"every": None},
        "resample_every: got None, allowed: 0 (never) or more (a whole numb",
    ),
    (
        Resample,
        {"every": 5, "window": 2.0},
        "resample window: got 2.0, allowed: 1 to resample_every=5",
    ),
    (
        Resample,
        {"every": 5, "window": True},
        "resample window: got True, allowed: 1 to resample_every",
    ),
    (Resample, {"window": "5"}, "resample window: got '5', allowed: 1 or more (a whole number)"),
    (Resample, {"threshold": INF}, "resample threshold: got inf, allowed: 0 or more (a number)"),
    (Resample, {"threshold": "0"}, "resample threshold: got '0', allowed: 0 or more (a number)"),
    (
        Resample,
        {"ghost_after": 2.0},
        "ghost_after: got 2.0, allowed: 0 (never) or more (a whole numb",
    ),
    (
        Resample,
        {"ghost_after": -1},
        "ghost_after: got -1, allowed: 0 (never) or more (a whole number)",
    ),
    (Resample, {"bias": NAN}, "resample bias: got nan, allowed: a finite number"),
    (Resample, {"bias": -INF}, "resample bias: got -inf, allowed: a finite number"),
    (Resample, {"bias": None}, "resample bias: got None, allowed: a finite number"),
    (Sweep, {"l1": [None]}, "l1: got None, allowed: a number, 0 or more, up to 1e18"),
    (
        Sweep,
        {"l1": "0.1"},
        "l1: got '0.1', allowed: a number, 0 or more, up to 1e18, or a sequence",
    ),
    (Sweep, {"l1": ["0.1"]}, "l1: got '0.1', allowed: a number, 0 or more, up to 1e18"),
    (Sweep, {"l1": b"ab"}, "l1: got b'ab', allowed: a number, 0 or more"),
    (Sweep, {"l1": {0.1: 1}}, "l1: got values for 0.1, allowed: for relu"),
    (
        Sweep,
        {"l1": Unordered([0.1])},
        "l1: got Unordered({0.1}), allowed: a number, 0 or more, up to",
    ),
    (Sweep, {"l1": [[0.1], [0.2]]}, "l1: got [0.1], allowed: a number, 0 or more, up to 1e18"),
    (
        Sweep,
        {"l1": np.ones((2, 2))},
        "l1: got [1.0, 1.0], allowed: a number, 0 or more, up to 1e18",
    ),
    (Sweep, {"lr": [True]}, "lr: got True, allowed: a number above 0, up to 1e15"),
    (Sweep, {"lr": np.True_}, "lr: got True, allowed: a number above 0, up to 1e15, or a sequence"),
    (Sweep, {"ratio": [None]}, "ratio: got None, allowed: a number above 0"),
    (Sweep, {"ratio": 10**400}, "ratio: got 1000"),
    (Sweep, {"seeds": [True]}, "seeds: got True, allowed: a whole number from 0 to 2**32 - 1"),
    (
        Sweep,
        {"seeds": 1.0},
        "seeds: got 1.0, allowed: a whole number from 0 to 2**32 - 1, or a seq",
    ),
    (Sweep, {"seeds": "12"}, "seeds: got '12', allowed: a whole number from 0 to 2**32 - 1"),
    (Sweep, {"seeds": np.array([1.0])}, "seeds: got 1.0, allowed: a whole number from 0"),
    (
        Sweep,
        {"resample": True},
        "resample: got True, allowed: one of off, on, anthropic, ghost, auxk",
    ),
    (
        Sweep,
        {"resample": ["on", "of"]},
        "resample: got 'of', allowed: one of off, on, anthropic, gho",
    ),
    (Sweep, {"resample": [0, 1]}, "resample: got 0, allowed: one of off, on, anthropic, ghost"),
    (
        Sweep,
        {"resample": None},
        "resample: got None, allowed: one of off, on, anthropic, ghost, auxk",
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), WRONG, ids=[w[2][:40] for w in WRONG])
def test_a_value_of_the_wrong_type_is_refused_by_name(kind, arguments, message):
    with pytest.raises(ValueError, match="allowed: ") as error:
        kind(**arguments)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "make", [np.array, jnp.array, list, tuple], ids=["np", "jnp", "list", "tuple"]
)
def test_an_axis_is_any_sequence_or_array(make):
    words = np.array if make is jnp.array else make  # JAX holds no text
    got = Sweep(
        l1=make([0.5, 0.25]), ratio=make([1, 2]), seeds=make([3, 4]), resample=words(["on", "off"])
    )
    assert (got.l1, got.ratio, got.seeds) == ((0.5, 0.25), (1.0, 2.0), (3, 4))
    assert got.resample == ("on", "off")
    types = [type(v) for axis in (got.l1, got.ratio, got.seeds, got.resample) for v in axis]
    assert types == [float] * 4 + [int] * 2 + [str] * 2


def test_a_range_and_a_lone_number_of_any_library_are_axes():
    assert Sweep(seeds=range(3)).seeds == (0, 1, 2)
    assert Sweep(seeds=np.int64(7), l1=jnp.float32(0.5)) == Sweep(seeds=7, l1=0.5)
    with pytest.raises(ValueError, match=r"^seeds: got no value, allowed"):
        Sweep(seeds=np.array([], int))


def test_numbers_of_numpy_can_be_written_down():
    settings = Settings(
        steps=np.int64(4),
        eval_every=np.int32(2),
        cell_batch=np.int64(3),
        dead_threshold=np.float32(0.5),
        resample=Resample(every=np.int64(5), window=np.int64(2), bias=np.float32(-0.5)),
    )
    spec = Synthetic(d_in=np.int64(6), n_features=np.uint8(8), avg_active=np.float32(2))
    assert settings == Settings(
        steps=4, eval_every=2, cell_batch=3, dead_threshold=0.5, resample=Resample(5, 2, bias=-0.5)
    )
    assert json.loads(json.dumps(asdict(settings)))["resample"]["every"] == 5
    assert json.loads(json.dumps(asdict(spec)))["n_features"] == 8
