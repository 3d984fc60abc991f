"""Tiny runs in workdirs, finished and interrupted."""

import json

import numpy as np

from saejax import SAEConfig, Settings, Sweep, Synthetic

SPEC = Synthetic("uncorrelated", d_in=6, n_features=8, avg_active=2.0)
SWEEP = Sweep(l1=(0.01, 0.1), ratio=(0.5, 1), seeds=(0, 4))
SETTINGS = Settings(
    steps=9,
    batch_size=8,
    eval_every=3,
    eval_batches=1,
    track_threshold=0.6,
    sae=SAEConfig(use_b_dec=True),
)
N_CELLS, N_EVAL = 8, 3
FLAGS = "--workdir=x\n--steps=9\n"
STUDY = {"name": "grid", "own_purity": 0.9, "table": {"labels": ["a", "b"], "x": [[1.5], [2.0]]}}


def lines_of(path):
    def refuse(text):
        raise ValueError(f"{text} is not JSON")

    return [
        json.loads(line, parse_constant=refuse)
        for line in (path / "metrics.jsonl").read_text().splitlines()
    ]


def assert_same_numbers(got, want):
    assert got.keys() == want.keys()
    for name, values in want.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-6, err_msg=name)


def contents(path):
    return {p.name: p.read_bytes() for p in path.rglob("*") if p.is_file()}
