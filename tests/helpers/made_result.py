"""A result made by hand."""

import numpy as np

from saejax import Params, Result

COORDS = {
    "dataset": ("uncorrelated", "<b>&"),
    "seed": (0, 5, 9),
    "ratio": (0.5, 2.0),
    "l1": (0.01, 0.1778279),
    "lr": (1e-3,),
    "resample": ("off",),
    "architecture": ("relu",),
    "k": (0,),
}
SHAPE = tuple(len(v) for v in COORDS.values())
FROZEN = (0, 1, 0, 1, 0, 0, 0, 0)  # uncorrelated, seed 5, ratio 0.5, l1 0.178
ALL_FROZEN = (1, slice(None), 1, 0, 0, 0, 0, 0)  # <b>&, every seed of ratio 2, l1 0.01
NAMES = (
    "mmcs_true_to_dict",
    "mmcs_dict_to_true",
    "mse",
    "l1_loss",
    "l0",
    "fvu",
    "dead_latents",
    "mmcs_to_next_larger",
    "learned",
    "unlearned",
    "represented",
)


def weights(index, shape=SHAPE):
    number = float(np.ravel_multi_index(index, shape))
    return Params(np.full((3, 2), number), np.zeros(2), np.full((2, 3), -number))  # pyright: ignore


def make(coords=COORDS, drop=()):
    shape = tuple(len(v) for v in coords.values())
    rng = np.random.default_rng(0)
    final = {name: rng.uniform(size=shape) for name in NAMES if name not in drop}
    if "mmcs_to_next_larger" in final:
        final["mmcs_to_next_larger"][:, :, -1] = np.nan
    frozen_at = np.full(shape, -1)
    if shape == SHAPE:
        frozen_at[FROZEN] = 17
        frozen_at[ALL_FROZEN] = 3
        final["mmcs_true_to_dict"][FROZEN] = 99.0
        final["mse"][FROZEN] = -99.0
    return Result(
        coords=coords,
        d_sae=tuple(int(8 * r) for r in coords["ratio"]),
        run={},
        steps=np.array([10, 20]),
        history={name: np.stack([a, a]) for name, a in final.items()},
        final=final | {"frozen_at": frozen_at},
        best_index=None,
        best_cosine=None,
        features=None,
        load_params=weights,
    )
