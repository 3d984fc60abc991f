"""A result of several architectures made up for the tests of the export."""

import csv

import numpy as np

from helpers.saes import D_IN, D_SAE, make

COORDS = {
    "dataset": ("acts",),
    "seed": (0, 1),
    "ratio": (2.0,),
    "l1": (0.0, 0.25),
    "lr": (0.001,),
    "resample": ("off",),
    "architecture": ("relu", "topk", "nested"),
    "k": (0, 3),
}
SHAPE = tuple(len(v) for v in COORDS.values())
KINDS = {"relu": "relu", "topk": "topk", "nested": "matryoshka"}
MODEL = {
    "config": {"context": 32, "d_model": D_IN},
    "pretrained": {"name": "openai-community/gpt2", "revision": "abc"},
    "corpus": {"source": {"type": "folder", "folder": "/home/somebody/secret"}},
    "packing": {"context": 16, "bos": 50256, "drop_first": True},
}
RUN = {
    "coords": {name: list(v) for name, v in COORDS.items()},
    "d_sae": [D_SAE],
    "d_in": D_IN,
    "n_cells": 6,
    "settings": {"steps": 20, "batch_size": 8, "snapshot_every": 0},
    "architectures": {
        "relu": {"kind": "relu"},
        "topk": {"kind": "topk"},
        "nested": {"kind": "matryoshka", "prefixes": [0.25, 1.0]},
    },
    "data": {
        "acts": {
            "type": "store",
            "model": MODEL,
            "hook": "blocks.2.hook_resid_pre",
            "d_in": D_IN,
            "rows": 99,
            "checksum": "f00d",
        }
    },
    "versions": {"saejax": "0.1.0", "jax": "0.10.2", "numpy": "2.4.6"},
}
# Position of seed, l1, architecture and k.
CELLS = {(s, l1, a, k) for s in (0, 1) for l1, a, k in ((1, 0, 0), (0, 1, 1), (0, 2, 1))}
FROZEN = "acts_seed-1_ratio-2_l1-0_architecture-topk_k-3"


def params(index):
    sae = make(KINDS[COORDS["architecture"][index[6]]])
    # The seed is told apart by a bias.
    return sae.params._replace(b_enc=sae.params.b_enc + np.float32(index[1]))


def rows(folder):
    return list(csv.DictReader((folder / "cells.csv").open()))
