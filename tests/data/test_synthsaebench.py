"""The setting of SynthSAEBench-16k, and statistics and scores against those of SAELens, its
home."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saejax.data.synthetic import hierarchy, orthogonal, recipe
from saejax.data.synthetic.hierarchy import Hierarchy
from saejax.data.synthetic.magnitudes import Magnitudes
from saejax.data.synthetic.orthogonal import Orthogonal
from saejax.data.synthetic.recipe import Synthetic
from saejax.data.synthetic.synthsaebench import synthsaebench_16k
from saejax.data.synthetic.zipf import Zipf
from saejax.metrics import firing, measures
from saejax.metrics.one_to_one import mcc
from saejax.sae.params import Params

N = 20_000
SMALL = synthsaebench_16k(64)
RNG = np.random.default_rng(0)
DECODER, FEATURES = np.float32(RNG.normal(size=(12, 6))), np.float32(RNG.normal(size=(20, 6)))

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip("sae_lens.synthetic", reason="SAELens is not installed")


@functools.cache
def fired(kind):
    """How often each feature of a small version fired, and the sum of its activations."""
    spec = Synthetic(
        kind,
        d_in=4,
        n_features=256,
        copula_rank=25,
        copula_strength=0.25,
        zipf=SMALL.zipf,
        hierarchy=SMALL.hierarchy,
        magnitudes=Magnitudes(spread_mean=0.5, spread_std=0.0),
    )

    @jit
    def draw(key):
        c = recipe.codes(spec, recipe.truth(spec, key), key, N)
        return (c > 0).sum(0), c.sum(0)

    return tuple(map(np.float64, draw(jax.random.key(0))))


def fired_there(peer, correlated):
    model = peer.SyntheticModel(
        peer.SyntheticModelConfig(
            num_features=256,
            hidden_dim=4,
            firing_probability=peer.ZipfianFiringProbabilityConfig(0.5, 0.4, 5e-4),
            hierarchy=peer.HierarchyConfig(
                total_root_nodes=2,
                branching_factor=4,
                max_depth=3,
                mutually_exclusive_portion=1.0,
                compensate_probabilities=True,
                scale_children_by_parent=True,
            ),
            correlation=peer.LowRankCorrelationConfig(25, 0.1) if correlated else None,
            mean_firing_magnitudes=peer.LinearMagnitudeConfig(5.0, 4.0),
            std_firing_magnitudes=0.5,
            seed=0,
        )
    )
    generator = model.activation_generator
    c = np.concatenate([generator.sample(1000).numpy() for _ in range(N // 1000)])
    return (c > 0).sum(0), c.sum(0, dtype=np.float64), generator.firing_probabilities.numpy()


# --- the setting -------------------------------------------------------------------------------


def test_full_size_is_the_published_setting():
    assert synthsaebench_16k() == Synthetic(
        kind="copula",
        d_in=768,
        n_features=16384,
        copula_rank=25,
        copula_strength=0.25,
        zipf=Zipf(0.5, 0.4, 5e-4),
        hierarchy=Hierarchy(roots=128, branching=4, depth=3, exclusive=True, scaled=True),
        magnitudes=Magnitudes(5.0, 4.0, 0.5, 0.5),
        orthogonal=Orthogonal(100, 3e-4),
        bias_norm=0.5,
    )


@pytest.mark.parametrize(("scale", "active"), [(1, 34.495), (4, 16.045), (16, 7.259), (64, 2.916)])
def test_mean_active_is_what_the_table_says(scale, active):
    spec = synthsaebench_16k(scale)
    assert recipe.mean_active(spec) == pytest.approx(active, abs=1e-3)
    assert spec.hierarchy.ends[-1] / spec.n_features == 85 / 128
    assert spec.d_in**2 * scale == 768**2


@pytest.mark.parametrize("scale", [0, 2, 128, 4.0, True])
def test_other_scales_are_refused(unchecked, scale):
    with pytest.raises(ValueError, match=f"^scale: got {scale}, allowed: 1, 4, 16 or 64"):
        synthsaebench_16k(scale)


def test_correlation_leaves_the_mean_active_about_as_it_is():
    alone, together = fired("uncorrelated")[0].sum() / N, fired("copula")[0].sum() / N
    assert alone == pytest.approx(recipe.mean_active(SMALL), rel=0.01)
    assert together == pytest.approx(alone, rel=0.05)


# --- against SAELens ---------------------------------------------------------------------------


def test_uncorrelated_features_are_proposed_fire_and_weigh_as_in_saelens(peer):
    fires, total = fired("uncorrelated")
    their_fires, their_total, proposed = fired_there(peer, correlated=False)
    ours = hierarchy.proposals(SMALL.hierarchy, recipe.firing_probabilities(SMALL))
    np.testing.assert_allclose(ours, proposed, rtol=1e-4)
    both = fires + their_fires
    assert (np.abs(fires - their_fires) < 5 * np.sqrt(both) + 2).all()
    # A child three levels down carries three factors of spread 0.5 / 4.
    often = both > 500
    means, their_means = (
        t[often] / f[often] for t, f in ((total, fires), (their_total, their_fires))
    )
    assert often[2:170].sum() > 10
    np.testing.assert_allclose(means, their_means, rtol=0.1)


def test_correlated_features_are_as_many_as_in_saelens(peer):
    fires, _ = fired("copula")
    their_fires, *_ = fired_there(peer, correlated=True)
    # Loadings differ, and rates of children with them; roots and lone features do not move.
    assert fires.sum() == pytest.approx(their_fires.sum(), rel=0.05)
    still = np.r_[0:2, 170:256]
    difference = np.abs(fires - their_fires)[still]
    assert (difference < 5 * np.sqrt((fires + their_fires)[still]) + 2).all()


def test_features_are_moved_apart_as_in_saelens(peer):
    import torch
    from sae_lens.synthetic.feature_dictionary import orthogonalize_embeddings

    F = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    theirs = orthogonalize_embeddings(torch.tensor(F), num_steps=30, lr=0.01).numpy()
    ours = orthogonal.move_apart(Orthogonal(30, 0.01), jnp.array(F))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_scores_are_those_of_saelens(peer):
    import torch
    from sae_lens.synthetic import evals

    h = np.float32(RNG.normal(size=(500, 12)).clip(0))
    codes = np.float32((RNG.normal(size=(500, 20)) - 1).clip(0))
    h[:, 3] = 0
    W, F = torch.tensor(DECODER), torch.tensor(FEATURES)
    theirs = evals.compute_classification_metrics(torch.tensor(h), torch.tensor(codes), W, F)
    weights = Params(jnp.array(DECODER.T), jnp.zeros(len(DECODER)), jnp.array(DECODER))
    feature_of = measures.recovery(weights, jnp.array(FEATURES)).feature_of
    ours = firing.scores(firing.counts(jnp.array(h), jnp.array(codes), feature_of))
    expected = [theirs.precision, theirs.recall, theirs.f1_score]
    np.testing.assert_allclose(list(ours.values()), expected, rtol=1e-5)
    unique = float(firing.uniqueness(feature_of, 20))
    assert unique == pytest.approx(evals.feature_uniqueness(W, F))
    assert 0 < unique < 1
    assert mcc(DECODER, FEATURES) == pytest.approx(
        evals.mean_correlation_coefficient(W, F), rel=1e-5
    )
