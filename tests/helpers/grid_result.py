"""A finished grid made up for the tests of its claims."""

import numpy as np
import pytest

from saejax import Result

RATIOS = (0.5, 1.0, 2.0, 4.0)
L1 = (0.01, 0.1)
SEEDS = (0, 5, 9)
N_FEATURES = 8
SPEC = {"type": "synthetic", "d_in": 4, "n_features": 8, "avg_active": 2.0, "feature_decay": 0.9}
DATA = {
    "uncorrelated": {**SPEC, "kind": "uncorrelated"},
    "correlated": {**SPEC, "kind": "correlated"},
}
RARITY = "rare features are represented worse"


def make(data=DATA, seeds=SEEDS, ratios=RATIOS, lr=(1e-3,), cosine=True, steps=(10, 20, 30, 40)):
    """A result in which nothing happens; tests plant effects in its arrays."""
    coords = {
        "dataset": tuple(data),
        "seed": seeds,
        "ratio": ratios,
        "l1": L1,
        "lr": lr,
        "resample": ("off",),
        "architecture": ("relu",),
        "k": (0,),
    }
    shape = tuple(len(v) for v in coords.values())
    names = ("mmcs_true_to_dict", "mse", "fvu", "learned", "unlearned")
    final = {name: np.full(shape, 0.5, np.float32) for name in names}
    falling = np.linspace(0.9, 0.1, N_FEATURES)
    return Result(
        coords=coords,
        d_sae=tuple(int(100 * r) for r in ratios),
        run={"data": data},
        steps=np.array(steps),
        history={"dead_latents": np.zeros((len(steps), *shape), np.float32)},
        final={**final, "frozen_at": np.full(shape, -1)},
        best_index=None,
        best_cosine=np.broadcast_to(falling, (len(steps), *shape, N_FEATURES)).copy()
        if cosine
        else None,
        features=None,
        load_params=lambda index: pytest.fail("no weights are needed"),
    )


def rows(table, claim, data=None):
    return [row for row in table if row["claim"] == claim and data in (None, row["data"])]


def noise(seed=0, scale=1e-3):
    """A little something for each seed, data set and cell."""
    return np.random.default_rng(seed).normal(scale=scale, size=(2, 3, 4, 2, 1, 1, 1, 1))
