"""Feature tracking: cases by hand, and identities that hold for any two evaluations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saejax.metrics.turnover import CLASSES, track

quick = settings(max_examples=50, deadline=None, derandomize=True, database=None)
compiled = jax.jit(track, static_argnums=4)


def run(before_index, before_cosine, index, cosine, threshold=0.5, f=compiled):
    indices = [jnp.array(a, jnp.int32) for a in (before_index, index)]
    cosines = [jnp.array(a, jnp.float32) for a in (before_cosine, cosine)]
    out = f(indices[0], cosines[0], indices[1], cosines[1], threshold)
    return {name: np.asarray(a) for name, a in out.items()}


@pytest.mark.parametrize(
    ("before", "now", "name", "change"),
    [
        ((3, 0.25), (3, 0.75), "learned", 0.5),
        ((3, 0.25), (4, 0.75), "learned", 0.5),
        ((-1, 0.0), (0, 1.0), "learned", 1.0),
        ((3, 0.75), (3, 0.25), "unlearned", -0.5),
        ((3, 0.75), (4, -0.25), "unlearned", -1.0),
        ((3, 0.75), (3, 0.625), "kept", -0.125),
        ((3, 0.75), (4, 1.0), "moved", 0.25),
        ((3, 0.25), (4, 0.375), None, None),
        ((3, 0.5), (3, 0.5), "kept", 0.0),
        ((3, 0.49999), (3, 0.5), "learned", 1e-5),
        ((3, 0.5), (3, 0.49999), "unlearned", -1e-5),
    ],
)
def test_one_feature(before, now, name, change):
    out = run([before[0]], [before[1]], [now[0]], [now[1]])
    assert {c: out[c] for c in CLASSES} == {c: float(c == name) for c in CLASSES}
    for c in CLASSES:
        expected = change if c == name else np.nan
        np.testing.assert_allclose(out[f"{c}_change"], expected, atol=1e-7)
    assert out["represented"] == (name in ("learned", "kept", "moved"))


def test_mean_change_is_over_the_class_alone():
    out = run(
        before_index=[0, 1, 2, 3, 4, 5],
        before_cosine=[0.25, 0.0, 1.0, 0.5, 0.75, 0.125],
        index=[0, 9, 2, 3, 9, 9],
        cosine=[0.75, 1.0, 0.5, 0.75, 1.0, 0.25],
    )
    assert (out["learned"], out["learned_change"]) == (2, 0.75)
    assert (out["kept"], out["kept_change"]) == (2, -0.125)
    assert (out["moved"], out["moved_change"]) == (1, 0.25)
    assert out["unlearned"] == 0
    assert np.isnan(out["unlearned_change"])
    assert out["represented"] == 5


def test_leading_axes_are_cells():
    rng = np.random.default_rng(0)
    index = rng.integers(0, 2, (2, 2, 3, 5))
    cosine = rng.random((2, 2, 3, 5))
    together = run(index[0], cosine[0], index[1], cosine[1], f=track)
    for s, c in np.ndindex(2, 3):
        alone = run(index[0, s, c], cosine[0, s, c], index[1, s, c], cosine[1, s, c])
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][s, c], value, atol=1e-7)


def test_names_returned():
    out = run([0], [0.0], [0], [0.0])
    expected = {"represented", *CLASSES, *(f"{name}_change" for name in CLASSES)}
    assert set(out) == expected
    assert all(a.dtype == np.float32 for a in out.values())


# Multiples of 1/8 are exact in float32, and often equal the threshold.
features = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-8, 8), st.integers(0, 2), st.integers(-8, 8)),
    min_size=6,
    max_size=6,
)


@quick
@given(features)
def test_classes_and_changes_are_those_of_a_loop(rows):
    rows = [(i, a / 8, j, b / 8) for i, a, j, b in rows]
    out = run(*zip(*rows, strict=True))
    changes = {name: [] for name in CLASSES}
    for i, a, j, b in rows:
        if a >= 0.5 and b >= 0.5:
            changes["kept" if i == j else "moved"].append(b - a)
        elif b >= 0.5:
            changes["learned"].append(b - a)
        elif a >= 0.5:
            changes["unlearned"].append(b - a)
    for name, members in changes.items():
        assert out[name] == len(members)
        mean = sum(members) / len(members) if members else np.nan
        np.testing.assert_allclose(out[f"{name}_change"], mean, atol=1e-6)


@quick
@given(features)
def test_classes_partition_and_balance(rows):
    before_index, before, index, now = (np.array(a) for a in zip(*rows, strict=True))
    out = run(before_index, before / 8, index, now / 8)
    never = ((before < 4) & (now < 4)).sum()
    assert sum(out[name] for name in CLASSES) + never == len(rows)
    assert out["represented"] == out["learned"] + out["kept"] + out["moved"]
    assert out["learned"] - out["unlearned"] == (now >= 4).sum() - (before >= 4).sum()


@quick
@given(features)
def test_time_reversed_swaps_learned_and_unlearned(rows):
    before_index, before, index, now = (np.array(a) for a in zip(*rows, strict=True))
    forward = run(before_index, before / 8, index, now / 8)
    backward = run(index, now / 8, before_index, before / 8)
    for a, b in (("learned", "unlearned"), ("kept", "kept"), ("moved", "moved")):
        assert forward[a] == backward[b]
        np.testing.assert_allclose(forward[f"{a}_change"], -backward[f"{b}_change"], atol=1e-7)
