"""Training of a language model in a workdir: a loss curve, checkpoints, and resuming bit for bit.

A run is a folder with

    lm.json       shape, settings, the corpus with its checksums, and whether the run has ended
    loss.jsonl    a row per evaluation
    checkpoints/  weights, moments and step of the newest evaluations
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer
from tqdm.auto import tqdm

from saejax.core import files
from saejax.core.checkpoints import Checkpoints
from saejax.core.checks import check_whole
from saejax.core.diff import differences
from saejax.core.files import held
from saejax.core.signals import stopping
from saejax.lm.corpus import Corpus, unigram_entropy
from saejax.lm.loss import window_losses
from saejax.lm.model import GPT, GPTConfig, abstract_gpt, n_parameters
from saejax.lm.settings import LMSettings
from saejax.lm.steps import State, learning_rate, optimizer, start, train_steps

# Places of tokens are int32 in the compiled step.
MOST_TOKENS = 2**31 - 1


class TrainedLM(NamedTuple):
    """A trained model.

    Attributes:
        model: its weights.
        rows: a row per evaluation: `step`; `train_loss`, the mean over the steps since the row
            before; `validation_loss`; `lr`. Losses are nats per token.
        run: what lm.json holds, with `unigram_entropy` of the validation tokens in nats.
    """

    model: GPT
    rows: list[dict[str, float]]
    run: dict[str, Any]


def spread_windows(
    tokens: Integer[np.ndarray, " tokens"], n: int, length: int
) -> Integer[np.ndarray, "n length"]:
    """Windows of successive tokens, evenly spread from the first token to the last.

    They overlap where the tokens are few.
    """
    starts = np.linspace(0, tokens.size - length, n).astype(np.int64)
    return tokens[starts[:, None] + np.arange(length)]


def train_lm(
    config: GPTConfig,
    settings: LMSettings,
    corpus: Corpus,
    workdir: str | Path,
    *,
    checkpoint_every: int | None = None,
    keep: int = 2,
    progress: bool = True,
) -> TrainedLM:
    """Trains a model, or goes on where a run in the same workdir was interrupted.

    A run that was interrupted and resumed ends with the same weights and rows, bit for bit on the
    same kind of machine, as one that was not. SIGTERM and Ctrl-C save after the evaluation that
    comes next. In a workdir whose run has ended nothing is trained.

    Args:
        config: shape of the model; its vocabulary must be the corpus's.
        settings: how to train.
        corpus: text to learn.
        workdir: folder of the run, new, empty or of an interrupted run of the same configuration.
        checkpoint_every: steps between checkpoints, a multiple of `eval_every` (None: that). The
            last step always has one.
        keep: how many of the newest checkpoints are kept.
        progress: whether to show a progress bar.

    Raises:
        ValueError: before work starts, naming the argument: another vocabulary, too few or too many
            tokens, a workdir of another configuration.
        FileExistsError: for a workdir that holds other files.
        BlockingIOError: for one that another process is using.
        FloatingPointError: when the training loss is not finite; the checkpoints are kept.
    """
    every = settings.eval_every
    allowed = f"None, or a multiple of eval_every={every}"
    saves = every if checkpoint_every is None else checkpoint_every
    saves = check_whole("checkpoint_every", saves, allowed, lambda v: v >= 1 and v % every == 0)
    _check_tokens(config, corpus)
    path = Path(workdir)
    plan = _describe(config, settings, corpus)
    _claim(path, plan)
    with held(path), Checkpoints(path / "checkpoints", keep) as checkpoints, stopping() as stop:
        state = start(config, settings)
        done, state = checkpoints.newest(lambda _: state) or (0, state)
        rows = [r for r in _rows(path) if r["step"] <= done]
        files.write_text(path / "loss.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        shown = progress and done < settings.steps
        chunks = _chunks(state, done, corpus, settings)
        with tqdm(
            total=settings.steps, initial=done, disable=not shown, desc="language model"
        ) as bar:
            for state, row in chunks:
                rows.append(row)
                files.append_rows(path / "loss.jsonl", [row])
                step, asked = row["step"], stop.asked()
                if step % saves == 0 or step == settings.steps or asked:
                    checkpoints.save(step, state)
                if asked:
                    checkpoints.wait()
                    stop.leave(
                        f"language model stopped at step {step:,} of {settings.steps:,} and saved; "
                        "the same command goes on from there"
                    )
                bar.set_postfix_str(f"validation loss {row['validation_loss']:.3f} nats")
                bar.update(every)
        checkpoints.wait()
        files.write_text(path / "lm.json", json.dumps(plan | {"finished": True}, indent=1))
    return TrainedLM(state.model, rows, plan | {"finished": True})


def _chunks(
    state: State, done: int, corpus: Corpus, settings: LMSettings
) -> Iterator[tuple[State, dict[str, Any]]]:
    """The state and the row of each evaluation that is left to do."""
    if done == settings.steps:
        return
    every, tokens = settings.eval_every, jnp.asarray(corpus.train)
    length = state.model.config.context + 1
    windows = jnp.asarray(spread_windows(corpus.validation, settings.eval_windows, length))
    for step in range(done, settings.steps, every):
        state, train_loss = train_steps(state, tokens, jnp.int32(step), n=every, settings=settings)
        row = {
            "step": step + every,
            "train_loss": float(train_loss),
            "validation_loss": float(_evaluate(state.model, windows)),
            "lr": float(learning_rate(settings, step + every - 1)),
        }
        if not math.isfinite(row["train_loss"]):
            raise FloatingPointError(
                f"train_loss: got {row['train_loss']} in steps {step} to {step + every}, allowed: "
                f"finite; a learning rate below lr={settings.lr} may help"
            )
        yield state, row


@jax.jit
def _evaluate(model: GPT, windows: Integer[Array, "windows context_and_next"]) -> Float[Array, ""]:
    return window_losses(model, windows).mean()


def load_lm(workdir: str | Path) -> TrainedLM:
    """The model of a run that has ended.

    Raises:
        FileNotFoundError: where the folder holds no model, or its run has not ended.
        ValueError: for an lm.json that is damaged.
    """
    path = Path(workdir)
    run = files.read_json(path / "lm.json", "a language model")
    if not run["finished"]:
        got = f"got {str(path)!r}, whose training was interrupted"
        raise FileNotFoundError(f"workdir: {got}; `train_lm` goes on with it")
    config, settings = GPTConfig(**run["config"]), LMSettings(**run["settings"])
    model = abstract_gpt(config)
    like = State(model, jax.eval_shape(optimizer(settings).init, model))
    with Checkpoints(path / "checkpoints") as checkpoints:
        state = checkpoints.restore(like, settings.steps)
    return TrainedLM(state.model, _rows(path), run)


def is_finished(workdir: str | Path) -> bool:
    """Whether a folder holds a model whose training has ended."""
    path = Path(workdir) / "lm.json"
    return path.exists() and bool(files.read_json(path)["finished"])


def _rows(path: Path) -> list[dict[str, float]]:
    file = path / "loss.jsonl"
    return files.read_rows(file) if file.exists() else []


def _describe(config: GPTConfig, settings: LMSettings, corpus: Corpus) -> dict[str, Any]:
    return {
        "finished": False,
        "config": asdict(config),
        "settings": asdict(settings),
        "corpus": {"source": dict(corpus.manifest["source"]), "checksums": corpus.checksums()},
        "parameters": n_parameters(config),
        "unigram_entropy": unigram_entropy(corpus.validation),
    }


def _check_tokens(config: GPTConfig, corpus: Corpus) -> None:
    if config.vocab_size != corpus.vocab_size:
        raise ValueError(
            f"vocab_size: got {config.vocab_size}, allowed: the corpus's {corpus.vocab_size}"
        )
    for name, tokens in (("train", corpus.train), ("validation", corpus.validation)):
        if tokens.size <= config.context:
            allowed = f"fewer than the {tokens.size} {name} tokens"
            raise ValueError(f"context: got {config.context}, allowed: {allowed}")
        if tokens.size > MOST_TOKENS:
            raise ValueError(
                f"corpus: got {tokens.size} {name} tokens, allowed: up to {MOST_TOKENS}; read "
                "fewer documents"
            )


def _claim(path: Path, plan: Mapping[str, Any]) -> None:
    """Starts a run in a workdir, or checks that the one there has the same configuration."""
    if (path / "lm.json").exists():
        before = files.read_json(path / "lm.json") | {"finished": False}
        different = differences(plan, before)
        if different:
            raise ValueError("; ".join(different) + f" (what {str(path)!r} was started with)")
        return
    files.check_new_folder(
        path,
        f"workdir: got {str(path)!r}, which holds other files, allowed: a new or empty "
        "folder, or one of the same run",
        ignored=files.leftover,
    )
    path.mkdir(parents=True, exist_ok=True)
    files.write_text(path / "lm.json", json.dumps(plan, indent=1))
