"""Trees of features: what may fire with what, and how often, against enumeration and by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.data.synthetic import hierarchy
from saejax.data.synthetic.hierarchy import Hierarchy
from saejax.data.synthetic.recipe import Synthetic, codes, firing_rates, truth

N = 40_000
KEY = jax.random.key(4)
# Two trees of 1 + 3 + 9 features; 3 stand alone behind them.
H = Hierarchy(roots=2, branching=3, depth=2, exclusive=True, scaled=False)
LOOSE = Hierarchy(roots=2, branching=3, depth=2, exclusive=False, scaled=False)
N_FEATURES = 29
PARENT = (
    [None, None]
    + [r for r in range(2) for _ in range(3)]
    + [m for m in range(2, 8) for _ in range(3)]
)
P = np.linspace(0.6, 0.02, N_FEATURES)

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
gate = jit(hierarchy.gate, static_argnums=0)


def siblings(i):
    return [
        j for j in range(len(PARENT)) if j != i and PARENT[j] == PARENT[i] and PARENT[i] is not None
    ]


def proposed(n=N, p=P):
    rng = np.random.default_rng(0)
    return np.float32(rng.random((n, len(p))) < p) * np.float32(rng.uniform(0.5, 1.5, (n, len(p))))


def assert_rates(fired, n, p):
    """Counts of n Bernoulli(p) trials, each within 5 standard errors."""
    assert (np.abs(fired - n * p) < 5 * np.sqrt(n * p * (1 - p)) + 1.5).all(), (fired / n, p)


# --- description -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roots": 0}, "roots: got 0, allowed: a whole number from 1"),
        ({"branching": 0}, "branching: got 0, allowed: a whole number from 1"),
        ({"depth": 1.5}, "depth: got 1.5, allowed: a whole number from 1"),
        ({"exclusive": 1}, "exclusive: got 1, allowed: True or False"),
        ({"scaled": "yes"}, "scaled: got 'yes', allowed: True or False"),
    ],
)
def test_bad_argument_is_named_with_what_is_allowed(unchecked, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Hierarchy(**arguments)


def test_ends_count_the_features_down_to_each_level():
    assert H.ends == (2, 8, 26)
    assert Hierarchy(roots=128, branching=4, depth=3).ends == (128, 640, 2688, 10880)


# --- how often features are proposed and fire ----------------------------------------------------


@pytest.mark.parametrize("h", [H, LOOSE])
def test_proposals_are_those_of_the_formula(h):
    expected = P.copy()
    for i, parent in enumerate(PARENT):
        if parent is not None:
            share = P[i] / P[parent]
            if h.exclusive:
                share *= 1 + sum(P[j] for j in siblings(i)) / P[parent]
            expected[i] = min(1.0, share)
    assert not h.exclusive or (expected == 1).any(), "a case of the formula that must be covered"
    np.testing.assert_allclose(hierarchy.proposals(h, jnp.array(P)), expected, rtol=1e-5)


@pytest.mark.parametrize("branching", [1, 2, 3, 4, 5])
def test_rates_are_those_of_an_enumeration_of_all_siblings(branching):
    h = Hierarchy(roots=1, branching=branching, depth=1)
    q = np.array([0.7, 1.0, 0.3, 0.05, 0.9, 0.5])[: 1 + branching]
    expected = np.zeros(branching)
    for fires in itertools.product((0, 1), repeat=branching):
        chance = np.prod([q[1 + i] if on else 1 - q[1 + i] for i, on in enumerate(fires)])
        for i in np.flatnonzero(fires):
            expected[i] += 0.7 * chance / sum(fires)
    got = np.asarray(hierarchy.rates(h, jnp.array(q)))
    np.testing.assert_allclose(got, [0.7, *expected], rtol=1e-5)


def test_rates_multiply_down_the_tree():
    q = np.linspace(0.9, 0.2, N_FEATURES)
    expected = q.copy()
    for i, parent in enumerate(PARENT):
        if parent is not None:
            expected[i] = q[i] * expected[parent]
    np.testing.assert_allclose(hierarchy.rates(LOOSE, jnp.array(q)), expected, rtol=1e-5)


def by_level(root, middle, leaf):
    return jnp.array([root] * 2 + [middle] * 6 + [leaf] * 18 + [0.2] * 3)


def test_without_exclusion_features_fire_as_often_as_asked():
    p = by_level(0.6, 0.3, 0.1)
    np.testing.assert_allclose(hierarchy.rates(LOOSE, hierarchy.proposals(LOOSE, p)), p, rtol=1e-5)


def test_exclusive_siblings_that_are_rare_fire_as_often_as_asked_to_first_order():
    # The formula takes the number of competitors for what they cost, which is half of it where
    # small.
    p, share = by_level(0.5, 0.005, 0.00005), 0.01
    expected = by_level(1.0, 1 + share, (1 + share) ** 2).at[26:].set(1.0)
    got = hierarchy.rates(H, hierarchy.proposals(H, p)) / p
    np.testing.assert_allclose(got, expected, rtol=1e-3)


@pytest.mark.parametrize("exclusive", [True, False])
def test_features_fire_at_their_rates(exclusive):
    spec = Synthetic(
        d_in=4,
        n_features=N_FEATURES,
        avg_active=4.0,
        feature_decay=0.9,
        hierarchy=Hierarchy(roots=2, branching=3, depth=2, exclusive=exclusive),
    )
    t = truth(spec, KEY)
    c = np.asarray(jit(codes, static_argnums=(0, 3))(spec, t, KEY, N))
    assert_rates((c > 0).sum(0), N, np.float64(firing_rates(spec)))


# --- what the forest allows ----------------------------------------------------------------------


@pytest.mark.parametrize("h", [H, LOOSE])
def test_a_child_fires_only_with_its_parent(h):
    fires = np.asarray(gate(h, proposed(), jnp.ones(N_FEATURES), KEY)) > 0
    for i, parent in enumerate(PARENT):
        if parent is not None:
            assert fires[:, i].any()
            assert not (fires[:, i] & ~fires[:, parent]).any()


def test_of_exclusive_siblings_one_fires_if_any_was_proposed():
    c = proposed()
    before, after = c > 0, np.asarray(gate(H, c, jnp.ones(N_FEATURES), KEY)) > 0
    for parent in range(8):
        children = [i for i, p in enumerate(PARENT) if p == parent]
        expected = after[:, parent] & before[:, children].any(1)
        np.testing.assert_array_equal(after[:, children].sum(1), expected)


def test_without_exclusion_every_proposed_child_of_an_active_parent_fires():
    c = proposed()
    after = np.asarray(gate(LOOSE, c, jnp.ones(N_FEATURES), KEY)) > 0
    for i, parent in enumerate(PARENT):
        if parent is not None:
            np.testing.assert_array_equal(after[:, i], (c[:, i] > 0) & after[:, parent])
            assert (after[:, siblings(i)] & after[:, [i]]).any()


def test_siblings_that_compete_stay_equally_often_and_independently_of_other_parents():
    after = np.asarray(gate(H, jnp.ones((N, N_FEATURES)), jnp.ones(N_FEATURES), KEY)) > 0
    assert_rates(after[:, 2:8].sum(0), N, 1 / 3)
    assert_rates(after[:, 8:26].sum(0), N, 1 / 9)
    for i, j in itertools.product(range(2, 5), range(5, 8)):
        assert_rates((after[:, i] & after[:, j]).sum(), N, 1 / 9)
    partial = np.ones((N, N_FEATURES), np.float32)
    partial[:, 3] = 0
    after = np.asarray(gate(H, partial, jnp.ones(N_FEATURES), KEY)) > 0
    assert_rates(after[:, [2, 4]].sum(0), N, 1 / 2)


def test_roots_and_features_that_stand_alone_stay_as_they_are():
    c = proposed(1000)
    after = gate(H, c, jnp.ones(N_FEATURES), KEY)
    np.testing.assert_array_equal(after[:, :2], c[:, :2])
    np.testing.assert_array_equal(after[:, 26:], c[:, 26:])


def test_activations_that_stay_keep_their_size_unless_scaled():
    c = proposed(1000)
    after = np.asarray(gate(H, c, jnp.ones(N_FEATURES), KEY))
    np.testing.assert_array_equal(after[after > 0], c[after > 0])


def test_scaled_children_carry_the_share_of_all_above_them():
    h = Hierarchy(roots=2, branching=3, depth=2, exclusive=False, scaled=True)
    c, mean = proposed(1000), np.linspace(2.0, 0.5, N_FEATURES)
    expected = np.float64(c)
    for i, parent in enumerate(PARENT):
        if parent is not None:
            expected[:, i] *= expected[:, parent] / mean[parent]
    np.testing.assert_allclose(gate(h, c, jnp.array(mean), KEY), expected, rtol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_change_nothing(monkeypatch, block):
    c = jnp.array(proposed(300))
    expected = gate(H, c, jnp.ones(N_FEATURES), KEY)
    monkeypatch.setattr(hierarchy, "BLOCK", block)
    got = jit(lambda c: hierarchy.gate(H, c, jnp.ones(N_FEATURES), KEY))(c)
    np.testing.assert_array_equal(got, expected)
