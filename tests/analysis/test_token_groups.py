"""Separation of groups: cases by hand, loops, an oracle, and what must not change the answer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from saejax.analysis.token_groups import order_latents, own_rate, separation
from saejax.data.token_table import published

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
MEMBER = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1]], bool)
compiled = jax.jit(partial(separation, member=MEMBER))
# Whole numbers: ties, silent latents and full separation are all likely, and scaling is exact.
activations = st.lists(st.tuples(*[st.integers(0, 4)] * 6), min_size=4, max_size=4).map(
    lambda rows: np.array(rows, np.float32)
)


def run(h, member=MEMBER, **settings):
    plain = member is MEMBER and not settings
    f = compiled if plain else partial(separation, member=member, **settings)
    return f(jnp.array(h, jnp.float32))


def loop(h, member, dead_threshold=0.0, own_purity=0.9):
    """Purity, gap, separates and own of one cell from their definitions, in float64."""
    h = np.float64(h)
    shape = (len(member), h.shape[1])
    purity, gap = np.full(shape, np.nan), np.full(shape, np.nan)
    separates, own = np.zeros(shape, bool), np.zeros(shape, bool)
    for g, inside in enumerate(member):
        for j, column in enumerate(h.T):
            if max(column) <= dead_threshold:
                continue
            within = [a for a, b in zip(column, inside, strict=True) if b]
            elsewhere = [a for a, b in zip(column, inside, strict=True) if not b]
            purity[g, j] = sum(within) / sum(column)
            gap[g, j] = (min(within) - max(elsewhere)) / max(column)
            thresholds = [a for a in column if max(elsewhere) < a <= min(within)]
            separates[g, j] = bool(thresholds)
            own[g, j] = separates[g, j] and purity[g, j] >= own_purity
    return purity, gap, separates, own


def agree(got, expected):
    for name, a, b in zip(got._fields, got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7, err_msg=name)


# --- purity, gap and what follows ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("h", "purity", "gap", "separates", "own"),
    [
        ([1, 1, 0, 0], 1.0, 1.0, True, True),
        ([4, 2, 0, 0], 1.0, 0.5, True, True),
        ([4, 4, 1, 1], 0.8, 0.75, True, False),
        ([9, 9, 2, 0], 0.9, 7 / 9, True, True),
        ([5, 0, 0, 0], 1.0, 0.0, False, False),
        ([2, 2, 2, 2], 0.5, 0.0, False, False),
        ([0, 0, 3, 3], 0.0, -1.0, False, False),
        ([0, 0, 0, 0], np.nan, np.nan, False, False),
    ],
)
def test_one_latent_and_the_group_of_the_first_two_tokens(h, purity, gap, separates, own):
    out = run(np.array(h)[:, None])
    got = [float(a[0, 0]) for a in out]
    np.testing.assert_allclose(got, [purity, gap, separates, own], rtol=1e-6)


@quick
@given(activations)
def test_separation_of_a_loop(h):
    agree(run(h), loop(h, MEMBER))


@pytest.mark.parametrize(
    "settings", [{"dead_threshold": 2.0}, {"own_purity": 0.5}, {"own_purity": 1.0}]
)
def test_the_settings_reach_what_they_are_for(settings):
    h = np.random.default_rng(0).integers(0, 5, (4, 200))
    out, default = run(h, **settings), run(h)
    agree(out, loop(h, MEMBER, **settings))
    assert int(out.own.sum()) != int(default.own.sum())


def test_a_latent_at_the_dead_threshold_is_dead():
    out = run([[0.5, 0.75]] * 2 + [[0, 0]] * 2, dead_threshold=0.5)
    assert np.isnan(out.purity[:, 0]).all()
    assert np.isnan(out.gap[:, 0]).all()
    assert not out.separates[:, 0].any()
    np.testing.assert_array_equal(out.own[:, 1], [True, False, False])


@quick
@given(activations)
def test_a_latent_separates_a_group_where_it_ranks_all_its_tokens_first(h):
    out = run(h)
    for g, j in np.ndindex(out.separates.shape):
        within, elsewhere = h[MEMBER[g], j], h[~MEMBER[g], j]
        # Mann and Whitney's U: pairs in which the token of the group wins, ties counting as half.
        won = mannwhitneyu(within, elsewhere, method="exact").statistic
        assert bool(out.separates[g, j]) == (won == within.size * elsewhere.size)
        if h[:, j].any():
            assert bool(out.separates[g, j]) == (out.gap[g, j] > 0)


def test_a_difference_that_vanishes_in_the_gap_still_separates():
    out = run([[1e30], [1e-20], [0], [0]])
    assert out.gap[0, 0] == 0
    assert out.separates[0, 0]


def test_a_latent_silent_outside_a_group_has_purity_one_to_the_last_bit():
    h = np.random.default_rng(0).random((300, 500))
    member = np.arange(300)[None] < 171
    h[171:] = 0
    assert (run(h, member).purity == 1).all()


@quick
@given(activations, st.lists(st.floats(0.125, 100), min_size=6, max_size=6))
def test_the_scale_of_a_latent_changes_nothing(h, scales):
    agree(run(h * np.float32(scales)), run(h))


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 2, 3, 0], [0, 2, 1, 3]])
def test_the_order_of_tokens_changes_nothing(order):
    h = np.random.default_rng(0).integers(0, 5, (4, 200))
    agree(run(h[order], MEMBER[:, order]), run(h))


@quick
@given(activations, st.permutations(range(6)))
def test_latents_are_judged_one_by_one(h, order):
    agree(run(h[:, order]), [a[:, np.array(order)] for a in run(h)])


@quick
@given(activations)
def test_purities_of_a_group_and_the_rest_add_up_to_one(h):
    out = run(h)
    both = out.purity[0] + out.purity[2]
    np.testing.assert_allclose(both, np.where(h.any(0), 1.0, np.nan), rtol=1e-6)
    assert np.all(np.abs(out.gap[:, h.any(0)]) <= 1)


def test_leading_axes_are_cells():
    h = np.random.default_rng(0).integers(0, 5, (2, 3, 4, 6))
    out = run(h)
    assert out.own.shape == (2, 3, 3, 6)
    for at in np.ndindex(2, 3):
        agree(type(out)(*(a[at] for a in out)), loop(h[at], MEMBER))


def test_the_groups_of_the_published_table_are_told_apart():
    table = published()
    groups = list(table.groups)
    h = table.member.T.astype(np.float32)
    assert [groups[g] for g in np.argmax(run(h, table.member).gap, 0)] == groups
    np.testing.assert_array_equal(run(h, table.member).own, np.eye(len(groups), dtype=bool))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"member": np.zeros((1, 4), bool)}, "member: got group 0 with 0 of 4 tokens, allowed: "),
        ({"member": np.ones((2, 4), bool)}, "member: got group 0 with 4 of 4 tokens, allowed: "),
        ({"member": MEMBER[:, :1]}, r"member: got bool of shape \(3, 1\), allowed: "),
        ({"member": MEMBER[0]}, r"member: got bool of shape \(4,\), allowed: "),
        ({"member": MEMBER.astype(int)}, r"member: got int64 of shape \(3, 4\), allowed: bool"),
        ({"dead_threshold": -0.1}, "dead_threshold: got -0.1, allowed: 0 or more"),
        ({"dead_threshold": np.nan}, "dead_threshold: got nan, allowed: 0 or more"),
        ({"own_purity": 0.0}, "own_purity: got 0.0, allowed: above 0, up to 1"),
        ({"own_purity": 1.1}, "own_purity: got 1.1, allowed: above 0, up to 1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_separation_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        separation(jnp.ones((4, 2)), **{"member": MEMBER, **arguments})


def test_a_second_group_is_checked_too():
    with pytest.raises(ValueError, match="member: got group 1 with 0 of 4 tokens"):
        separation(jnp.ones((4, 2)), np.array([[1, 0, 0, 0], [0, 0, 0, 0]], bool))


# --- order of latents ----------------------------------------------------------------------------


def columns(*latents):
    return np.array(latents, np.float32).T


def test_latents_are_ordered_by_what_they_respond_to():
    h = columns(
        [0, 0, 0, 0],  # 0: dead
        [0, 0, 0, 5],  # 1: the last token
        [9, 1, 8, 0],  # 2: first and third
        [0, 0, 1, 1],  # 3: last two
        [2, 2, 0, 0],  # 4: first two
        [0, 0, 0, 0],  # 5: dead
        [1, 0, 0, 0],  # 6: the first
        [1, 1, 1, 1],  # 7: all
        [3, 3, 1, 0],  # 8: first two, a little of the third
    )
    np.testing.assert_array_equal(order_latents(h), [7, 4, 8, 2, 6, 3, 1, 0, 5])


def test_half_of_the_largest_activation_is_a_response():
    h = columns([4, 1.9, 0], [4, 2, 0], [4, 0, 2])
    np.testing.assert_array_equal(order_latents(h), [1, 2, 0])


def test_alike_latents_are_ordered_by_their_mean_token_position():
    h = columns([4, 0, 1], [4, 1, 0], [4, 0, 0], [4, 1, 1], [8, 0, 2])
    # Positions 0.4, 0.2, 0, 0.5, 0.4; equal ones stay in the order of their indices.
    np.testing.assert_array_equal(order_latents(h), [2, 1, 0, 4, 3])


def test_what_counts_as_dead_goes_to_the_end():
    h = columns([0.5, 0, 0], [0, 0, 1], [0.25, 0, 0], [0, 0.75, 0])
    np.testing.assert_array_equal(order_latents(h), [0, 2, 3, 1])
    np.testing.assert_array_equal(order_latents(h, dead_threshold=0.5), [3, 1, 0, 2])


@quick
@given(activations)
def test_latents_that_respond_to_one_set_of_tokens_stand_together(h):
    order = order_latents(h)
    assert sorted(order) == list(range(6))
    live = h.any(0)[order]
    np.testing.assert_array_equal(live, sorted(live, reverse=True))
    words = [tuple(column >= max(column) / 2) for column in h.T[order[: live.sum()]]]
    assert words == sorted(words, reverse=True)


@quick
@given(activations, st.permutations(range(6)), st.integers(-20, 20))
def test_the_ordered_heat_map_does_not_see_order_and_scale(h, order, exponent):
    other = (h * np.float32(2.0) ** exponent)[:, order]
    pictures = [a[:, order_latents(a)] for a in (h, other)]
    # Latents that differ in their scale only may change places, so shares are compared.
    before, after = (a / np.where(a.any(0), a.max(0), 1) for a in pictures)
    np.testing.assert_array_equal(after >= 0.5, before >= 0.5)
    centres = [np.arange(4) @ a / np.where(a.any(0), a.sum(0), 1) for a in (before, after)]
    np.testing.assert_allclose(*centres, rtol=1e-6)


def test_each_cell_has_its_own_order():
    h = np.random.default_rng(0).integers(0, 5, (2, 3, 4, 6)).astype(np.float32)
    order = order_latents(h)
    for at in np.ndindex(2, 3):
        np.testing.assert_array_equal(order[at], order_latents(h[at]))
    picture = np.take_along_axis(h, order[..., None, :], -1)
    np.testing.assert_array_equal(picture[1, 2], h[1, 2][:, order[1, 2]])


@pytest.mark.usefixtures("unchecked")
def test_order_latents_refuses_a_threshold_below_zero():
    with pytest.raises(ValueError, match="dead_threshold: got -1, allowed: 0 or more"):
        order_latents(np.ones((2, 2), np.float32), -1)


# --- rate over the seeds -------------------------------------------------------------------------


def test_own_rate_by_hand():
    own = np.zeros((4, 3, 5), bool)
    own[0, 0, 2] = own[1, 0, :3] = own[3, 0, 4] = True
    own[:, 2] = True
    rate = own_rate(own)
    np.testing.assert_array_equal(rate.share, [0.75, 0, 1])
    np.testing.assert_array_equal(rate.mean_latents, [1.25, 0, 5])


@pytest.mark.parametrize("n", [1, 7, 40])
def test_the_interval_is_that_of_wilson(n):
    k = np.arange(n + 1)
    own = (np.arange(n)[:, None] < k)[..., None]
    rate = own_rate(own)
    z = norm.ppf(0.975)
    p = k / n
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose(rate.share, p)
    np.testing.assert_allclose(rate.low, (middle - half) / (1 + z**2 / n), atol=1e-12)
    np.testing.assert_allclose(rate.high, (middle + half) / (1 + z**2 / n), atol=1e-12)


def test_own_rate_keeps_the_axes_of_the_cells():
    own = np.random.default_rng(0).random((6, 2, 3, 4)) < 0.2
    rate = own_rate(own)
    for i, cell in enumerate(np.moveaxis(own, 1, 0)):
        for a, b in zip(rate, own_rate(cell), strict=True):
            np.testing.assert_array_equal(a[i], b)


def test_own_rate_needs_a_seed():
    with pytest.raises(ValueError, match="own: got 0 seeds, allowed: 1 or more"):
        own_rate(np.zeros((0, 2, 3), bool))
