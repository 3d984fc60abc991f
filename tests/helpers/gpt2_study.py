"""The GPT-2 command at a tiny size, in this process."""

import jax
import jax.numpy as jnp
import numpy as np

from helpers import commands
from saejax.core.files import read_rows
from saejax.experiments.gpt2 import __main__ as gpt2
from saejax.lm.model import forward

HOOK = "blocks.0.hook_resid_post"
TINY = [
    "--text=folder",
    "--validation_share=0.3",
    "--vocab_size=280",
    "--context=16",
    "--n_layers=1",
    "--d_model=8",
    "--d_mlp=32",
    "--n_heads=2",
    "--lm_steps=20",
    "--lm_eval_every=10",
    "--lm_batch_size=4",
    "--lm_warmup_steps=2",
    "--lm_eval_windows=8",
    f"--hook={HOOK}",
    "--rows=1500",
    "--rows_per_shard=400",
    "--expansion=1,2",
    "--l1=0.01,0.3",
    "--seeds=0-1",
    "--lr=0.01",
    "--resample=off,on,anthropic,ghost",
    "--resample_every=8",
    "--resample_window=3",
    "--resample_bias=-0.03",
    "--ghost_after=4",
    "--steps=20",
    "--eval_every=10",
    "--batch_size=32",
    "--eval_batches=2",
    "--held_out=0.05",
    "--sample_tokens=400",
    "--eval_windows=6",
    "--n_labelled=3",
    "--least_firings=5",
    "--label_contexts=4",
    "--dead_threshold=0.06",
]
# Two dictionaries, for what does not need a grid.
TWO = ["--expansion=2", "--l1=0.01", "--seeds=0", "--resample=off,on", "--ghost_after=0"]
TABLES = ("cells", "rates", "agreement", "labels")
WORDS = [f"{a}{b}" for a in ("cat", "dog", "sun", "hill", "mat") for b in ("", "s", "ly")]


def run(*arguments):
    """The command in this process; its printed lines are left to capsys."""
    with commands.parsing(gpt2) as parse:
        parse(*arguments)
        gpt2.main(["gpt2"])


def reused(finished, **instead):
    """Flags that reuse the stages of a finished run but for some."""
    folders = {name: finished / name for name in ("lm", "store", "dictionaries")} | instead
    flags = zip(("workdir_lm", "store", "dictionaries"), folders.values(), strict=True)
    return [f"--{flag}={folder}" for flag, folder in flags]


def found(path):
    """What the analysis left, byte by byte."""
    names = (*(f"analysis/{name}.jsonl" for name in TABLES), "claims.jsonl", "results.csv")
    return {name: (path / name).read_bytes() for name in names}


def row_of(path, table, **where):
    (row,) = (
        r for r in read_rows(path / "analysis" / f"{table}.jsonl") if where.items() <= r.items()
    )
    return row


def losses_by_hand(model, tokens, hook, autoencode, context=16, bos=None, first=0):
    """Mean losses in nats of 6 windows spread over a text, as they are and with three
    replacements."""
    length = context if bos is not None else context + 1
    at = np.linspace(0, tokens.size - length, 6).astype(int)
    windows = np.stack([tokens[i : i + length] for i in at]).astype(int)
    if bos is not None:
        windows = np.concatenate([np.full((6, 1), bos), windows], 1)
    read = jnp.asarray(windows[:, :-1])
    x = np.float64(forward(model, read, (hook,))[1][hook])
    others = {"clean": x, "zero": 0 * x, "own": autoencode(x)[1]}
    others["mean"] = np.broadcast_to(x[:, first:].mean((0, 1)), x.shape)
    out = {}
    for name, other in others.items():
        kept = np.concatenate([x[:, :first], other[:, first:]], 1)
        logits, _ = forward(model, read, replace={hook: jnp.asarray(kept, jnp.float32)})
        p = np.float64(jax.nn.log_softmax(logits))
        out[name] = -np.take_along_axis(p, windows[:, 1:, None], -1).mean()
    return out


GPT2_HOOK = "blocks.1.hook_resid_pre"
