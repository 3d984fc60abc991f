"""Workdirs of the GPT-2 study that are made up."""

from itertools import product

import numpy as np
import pytest

from saejax.core.files import append_rows, write_arrays, write_text
from saejax.experiments.gpt2 import page as gpt2
from saejax.experiments.gpt2.claims import of_gpt2
from saejax.report.page import Page
from saejax.results.workdir import write_run

nan = np.nan
STEPS, EVERY = (10, 20, 30), 12
N_LABELLED = 4


def block(n, seed=0):
    """Correlations of n latents of which the even and the odd ones belong together."""
    same = np.arange(n)[:, None] % 2 == np.arange(n) % 2
    noise = np.random.default_rng(seed).uniform(-0.05, 0.05, (n, n))
    return np.where(np.eye(n, dtype=bool), 1.0, np.where(same, 0.8, -0.3) + (noise + noise.T) / 2)


def dead_share(way, ratio, k, i):
    return (
        {"off": 0.5, "on": 0.2, "anthropic": 0.1, "ghost": 0.3}[way] + 0.01 * ratio + k + 0.02 * i
    )


def make(
    path,
    expansions=(1.0, 2.0),
    l1=(0.01, 0.1),
    ways=("off", "on", "ghost"),
    seeds=(0, 1),
    labellers=("offline", "a/model"),
    n_labelled=N_LABELLED,
    frozen=False,
    pretrained=False,
    viewer=True,
    texts=("theme #",),
    d_in=8,
):
    """A workdir as the study leaves it, of made-up numbers."""
    tables = {name: [] for name in ("cells", "rates", "agreement", "labels")}
    sizes = [round(d_in * ratio) for ratio in expansions]
    shape = (len(STEPS), 1, len(seeds), len(expansions), len(l1), 1, len(ways))
    counts = np.zeros(shape)
    arrays = {"steps": np.array(STEPS)}
    for (i, seed), (j, ratio), (m, k), (n, way) in product(
        *map(enumerate, (seeds, expansions, l1, ways))
    ):
        at = {"l1": k, "ratio": ratio, "resample": way, "seed": seed}
        head, share = {**at, "d_sae": sizes[j]}, dead_share(way, ratio, k, i)
        numbers = {
            "dead": share,
            "dead_on_sample": 0.1,
            "fires_rarely": 0.2,
            "median_density": 0.01,
            "fvu": 0.3 + 0.01 * i,
            "l0": 5.0,
            "mse": 0.1,
            "loss": 4.5,
            "recovered_zero": 0.9,
            "recovered_mean": 0.7 + 0.02 * i,
            "within": 0.2,
            "across": -0.1,
        }
        tables["cells"].append(head | (dict.fromkeys(numbers, nan) if frozen else numbers))
        counts[:, 0, i, j, m, 0, n] = (
            nan if frozen else sizes[j] * share * np.array([0.5, 1.5, 1.0])
        )
        here = 0 if frozen else n_labelled
        name = f"{ratio:g}x_l1-{k:g}_{way}_seed-{seed}"
        arrays |= {f"correlation/{name}": block(here), f"labelled/{name}": 3 * np.arange(here)}
        for which, labeller in enumerate(labellers):
            rate = 0.5 + 0.1 * i + 0.05 * which if here else nan
            ends = {"rate": rate, "rate_from": rate - 0.2, "rate_to": rate + 0.1}
            tables["rates"].append({**head, "labeller": labeller, "judged": here, **ends})
            for place in range(here):
                text = texts[place % len(texts)].replace("#", str(place))
                tables["labels"].append(
                    {
                        **head,
                        "labeller": labeller,
                        "latent": 3 * place,
                        "half": "top" if place < here / 2 else "bottom",
                        "selectivity": 1 / (place + 1),
                        "firings": 99,
                        "highest": 2.5,
                        "label": f"{text} by {labeller}",
                    }
                )
        if len(labellers) == 2 and here:
            tables["agreement"].append(
                {**head, "labellers": "both", "judged": here, "same": 0.7, "kappa": nan}
            )
    path.mkdir(parents=True)
    (path / "analysis").mkdir()
    write_arrays(path / "analysis.npz", arrays | {"history/dead_latents": counts})
    for name, rows in tables.items():
        append_rows(path / "analysis" / f"{name}.jsonl", rows)
    append_rows(path / "claims.jsonl", of_gpt2(tables))
    write_text(path / "config.flags", "--seeds=0,1\n")
    if viewer:
        (path / "viewer").mkdir()
        write_text(path / "viewer" / "index.html", "here")
    run = run_of(expansions, l1, ways, seeds, labellers, sizes, d_in, pretrained)
    write_run(path, run, finished=True)
    return path


def run_of(expansions, l1, ways, seeds, labellers, sizes, d_in, pretrained):
    revived = {"every": EVERY, "window": None, "threshold": 0.07, "bias": -0.01, "ghost_after": 5}
    lm = {"config": {"n_layers": 6, "d_model": d_in}, "parameters": 21456, "unigram_entropy": 6.5}
    training = [
        {"step": s, "train_loss": 6 - s / 9, "validation_loss": 6 - s / 10} for s in (5, 10)
    ]
    if pretrained:
        lm |= {
            "pretrained": {"name": "owner/<gpt2>", "revision": "abc", "dtype": "float32"},
            "rows": [],
        }
    else:
        lm |= {"settings": {"steps": 15}, "rows": training}
    return {
        "study": {
            "name": "gpt2",
            "dead_threshold": 0.07,
            "sample_tokens": 4096,
            "n_labelled": 2,
            "least_firings": 10,
        },
        "hook": "blocks.3.hook_resid_pre",
        "tokens_looked_at": 4099,
        "d_in": d_in,
        "d_sae": sizes,
        "coords": {"l1": [*l1], "expansion": [*expansions], "resample": [*ways], "seed": [*seeds]},
        "corpus": {
            "source": {"type": "standard <library>"},
            "text_megabytes": 8.25,
            "tokens": {"train": 20000, "validation": 2000},
        },
        "lm": lm,
        "packing": {"context": 16, "bos": 0, "drop_first": True},
        "store": {"rows": 10000, "dtype": "float16", "checksum": "x"},
        "sweep": {
            "steps": 30,
            "batch_size": 64,
            "eval_batches": 4,
            "lr": 0.01,
            "resample": revived,
        },
        "losses": {"clean": 4.37, "zero": 5.5, "mean": 5.0},
        "device": "cpu",
        "versions": {"jax": "1"},
        "labellers": [{"labeller": name} for name in labellers],
        "stages": [
            {"stage": n, "reused": n == "text", "seconds": 1.5} for n in ("text", "analysis")
        ],
    }


def drawn(path):
    """Text of the page and its figures by name, laid out but not written."""
    figures = {}

    def keep(page, name, caption, figure):
        figure.draw_without_rendering()
        figures[name] = figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Page, "figure", keep)
        return gpt2.build(path).write().read_text(encoding="utf-8"), figures
