"""Workdirs of the bimodality study that are made up: arrays, tables and run.json of any sizes."""

from itertools import combinations

import numpy as np

from saejax.analysis.mcs import MaxCosine, emd
from saejax.core.files import append_rows, write_arrays, write_text
from saejax.results.workdir import write_run

nan = np.nan
CLASSES = ("dead", "noise", "real", "idle")
LABELS = ["learned", "rand 1", "rand 2", "alt params"]


def interval(name, value, width=0.1):
    return {name: value, f"{name}_from": value - width, f"{name}_to": value + width}


def of_size(rng, d, larger, d_in, low_share, dead_share):
    """Arrays of one dictionary: some MCS near 1, the others as random vectors have them."""
    law = MaxCosine(larger[-1], d_in)
    low = rng.permutation(d) < round(low_share * d)
    mcs = {size: np.where(low, law.ppf(rng.random(d)), 1 - 0.1 * rng.random(d)) for size in larger}
    for values in mcs.values():
        values[np.argmin(low)] = 0.5
    frequency = 10 ** rng.uniform(-4, -0.5, d) * (rng.random(d) >= dead_share * (0.2 + low))
    control = 10 ** rng.normal(-3, 0.5, d)
    other = control * 10 ** rng.normal(0, 0.2, d)
    effect = control * 10 ** rng.normal(0.6 * ~low, 0.4, d)
    unmeasured = rng.random(d) < 0.3
    effect, control, other = (np.where(unmeasured, nan, a) for a in (effect, control, other))
    return mcs, {
        "frequency": frequency,
        "effect": np.where(frequency > 0, effect, 0 * effect),
        "control": np.where(frequency > 0, control, nan),
        "other_control": other,
    }


def side(name, at, effect, ratio, frequency):
    """What the table `explanation` has on one side of the cutoff."""
    known = at & np.isfinite(effect)
    dead = frequency == 0
    real, rare = ~dead & (ratio >= 2), frequency < 1e-3
    classes = dead, ~dead & ~real & rare, real, ~dead & ~real & ~rare
    row = {f"{name}_n": int(at.sum()), f"{name}_n_measured": int(known.sum())}
    row |= interval(f"{name}_dead", float(dead[at].mean()) if at.any() else nan)
    for what, values in (("frequency", frequency), ("effect", ratio), ("nats", effect)):
        values = values[known & ~dead]
        row |= interval(f"{name}_{what}", float(np.median(values)) if len(values) else nan)
    for label, inside in zip(CLASSES, classes, strict=True):
        count = int((inside & known).sum())
        row[f"{name}_count_{label}"] = count
        row |= interval(f"{name}_share_{label}", count / known.sum() if known.any() else nan)
    return row


def against_random(rng, head, mcs, d, M, d_in, tables):
    """Distances of low MCS from random ones; None where there are none."""
    low = mcs[mcs < 0.5]
    if not len(low):
        return None
    draws = [MaxCosine(m, d_in).ppf(rng.random(d)) for m in (M, M, 2 * M)]
    distance = emd([low, *(x[x < 0.5] for x in draws)])
    row = {"n_low": len(low)} | interval("learned_random", distance[0, 1:-1].mean(), 0.002)
    row |= interval("random_random", distance[1, 2], 0.0005) | interval("ratio", 1.5)
    row |= interval("random_alt", distance[1:-1, -1].mean(), 0.001)
    row |= interval("learned_alt", distance[0, -1], 0.001)
    tables["emd"].append(head | row | {"expected_if_random": 0.004, "p_value": 0.25})
    law = {"ks": 0.1, "ks_p_value": 0.5, "random_ks": 0.05, "random_ks_p_value": 0.7}
    tables["law"].append(head | {"n_low": len(low)} | law)
    drawn = np.where(draws[0] < 0.5, draws[0], nan)
    return {"emd": distance, "emd_low": 0.8 * distance, "emd_high": 1.3 * distance, "random": drawn}


def make(path, sizes=(16, 32, 64, 128), seeds=(0, 1), l1=(0.01, 0.001), d_in=32, low=0.4, dead=0.3):
    """A workdir as the study leaves it, of made-up numbers."""
    rng, L = np.random.default_rng(0), sizes[-1]
    names = ("cells", "modes", "split", "emd", "law", "correlation", "explanation")
    arrays, tables = {}, {name: [] for name in names}

    def keep(key, i, shape, values):
        arrays.setdefault(key, np.full((len(seeds), *shape), nan))[i] = values

    for k in l1:
        for d in sizes:
            others = rng.uniform(0.3, 1, (len(seeds), len(seeds) - 1, d))
            arrays[f"other_seeds/{k:g}/{d}"] = others
        for (i, seed), d in ((pair, d) for pair in enumerate(seeds) for d in sizes):
            larger = [size for size in sizes if size > d]
            head, share = {"l1": k, "d_sae": d, "seed": seed}, low * (d / L) ** 0.3
            mcs, own = of_size(rng, d, larger or [2 * d], d_in, share, dead)
            cell = head | {"fvu": 0.4 - 0.02 * len(larger) + 0.01 * i, "mse": 0.1, "l0": 9.0 + i}
            cell |= {"dead_latents": d // 8, "loss": 4.5 + 0.01 * i, "mmcs_to_largest": None}
            cell |= interval("recovered_zero", 0.9, 0.02) | interval("recovered_mean", 0.7, 0.04)
            tables["cells"].append(cell | {"mmcs_to_other_seeds": 0.6 if len(seeds) > 1 else None})
            for name, values in own.items():
                keep(f"{name}/{k:g}/{d}", i, (d,), values)
            for size in larger:
                keep(f"mcs/{k:g}/{d}/{size}", i, (d,), mcs[size])
                high = int((mcs[size] >= 0.5).sum())
                row = {"against": size, "high": high, "low": d - high}
                tables["split"].append(head | row | interval("high_share", high / d, 0.05))
            for first, second in combinations(larger, 2):
                row = head | {"larger": first, "largest": second, "n": d}
                row |= interval("pearson", 0.9 + 0.04 * i, 0.03) | interval("spearman", 0.5)
                tables["correlation"].append(row)
            if not larger:
                continue
            head |= {"against": L}
            for place in (0.31, 0.97):
                ends = {"place": place + 0.02 * i, "low": place - 0.02, "high": place + 0.03}
                shape = {"height": 3.0, "share": 0.5, "excess": 0.3, "support": 1.0}
                tables["modes"].append(head | ends | shape | {"dip": 0.1, "dip_p_value": 0.001})
            for name, array in (
                against_random(rng, head, mcs[L], d, L, d_in, tables) or {}
            ).items():
                keep(f"{name}/{k:g}/{d}", i, array.shape, array)
            ratio = own["effect"] / own["control"]
            row = {"effect_from": 2.0, "supported": "dead"}
            for name, at in (("low", mcs[L] < 0.5), ("high", mcs[L] >= 0.5)):
                row |= side(name, at, own["effect"], ratio, own["frequency"])
            for name in ("frequency", "dead", "effect"):
                row |= interval(f"rho_{name}", 0.3)
            tables["explanation"].append(head | row)
    for name in ("clean", "zero", "mean"):
        arrays[f"losses/{name}"] = np.full(4, 4.0)
    (path / "analysis").mkdir(parents=True)
    write_arrays(path / "analysis.npz", arrays)
    for name, rows in tables.items():
        append_rows(path / "analysis" / f"{name}.jsonl", rows)
    claim = {"claim": "MCS has two peaks", "published": "", "l1": 0.01, "measure": "peaks"}
    claim |= {
        "claimed": "above 1",
        "mean": 2.0,
        "sd": 0.0,
        "seeds": 2,
        "answer": "holds",
        "details": "",
    }
    append_rows(path / "claims.jsonl", [claim])
    write_text(path / "config.flags", "--seeds=0,1\n")
    write_run(path, run_of(sizes, seeds, l1, d_in), finished=True)
    return path


def run_of(sizes, seeds, l1, d_in):
    names = ("text", "language model", "activations", "dictionaries", "analysis")
    rows = [
        {"step": s, "train_loss": 6 - s / 9, "validation_loss": 6 - s / 10, "lr": 1e-3}
        for s in (5, 10, 15)
    ]
    return {
        "device": "cpu",
        "versions": {"jax": "1"},
        "d_in": d_in,
        "hook": "blocks.2.mlp.hook_post",
        "study": {
            "name": "bimodality",
            "cutoff": 0.5,
            "l1_shown": l1[0],
            "n_random": 2,
            "rare_below": 1e-3,
            "level": 0.95,
            "n_ablated": 99,
        },
        "eval_tokens": 65536,
        "coords": {"l1": [*l1], "d_sae": [*sizes], "seed": [*seeds]},
        "corpus": {
            "source": {"type": "standard <library>", "python": "3"},
            "text_megabytes": 8.25,
            "vocab_size": 512,
            "tokens": {"train": 20000, "validation": 2000},
            "documents": {},
        },
        "lm": {
            "config": {"n_layers": 6, "d_model": 8},
            "settings": {"steps": 15},
            "parameters": 21456,
            "unigram_entropy": 6.5,
            "rows": rows,
        },
        "store": {
            "rows": 10000,
            "hook": "blocks.2.mlp.hook_post",
            "dtype": "float16",
            "checksum": "x",
        },
        "sweep": {"steps": 30, "batch_size": 64, "lr": 0.01, "train_seconds": 3.2, "held_out": 0.1},
        "losses": {"clean": 4.37, "zero": 5.5, "mean": 5.0},
        "emd_labels": LABELS,
        "stages": [{"stage": n, "reused": n == "text", "seconds": 1.5} for n in names],
    }
