"""A language model that others have trained, in place of the small one that a study trains."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags

from saejax.experiments.common import command
from saejax.experiments.common.flagtable import define as define_flags
from saejax.experiments.common.stages import Stages
from saejax.lm.corpus import Corpus, unigram_entropy
from saejax.lm.gpt2 import DTYPES, SIZES, Pretrained, load_gpt2
from saejax.lm.harvest import Packing
from saejax.lm.model import n_parameters
from saejax.lm.training import TrainedLM

TRAINED = "trained"


def define(own: flags.FlagValues) -> None:
    """The flags of the model and of how its text is cut."""
    lm = (
        f"The language model: {TRAINED} for one that the study trains itself, or "
        f"GPT-2: {', '.join(SIZES)}, owner/name of a model of the Hugging Face hub, or a "
        "folder with its files. With GPT-2 the flags of size and training of a small one say "
        "nothing."
    )
    revision = "Commit of the hub's model. Default: a pinned one for the four published models."
    first = (
        "Whether the first position of every window is left out: GPT-2's "
        "activations there are many times as long as all others."
    )
    bos = "Whether every window of text begins with <|endoftext|>."
    define_flags(own, str, lm=(TRAINED, lm), lm_revision=(None, revision))
    define_flags(own, list(DTYPES), lm_dtype=("float32", "Its weights in memory."))
    define_flags(own, bool, bos=(False, bos), drop_first=(False, first))


def load(own: flags.FlagValues, stages: Stages) -> Pretrained | None:
    """The model of the flags; None where the study trains its own.

    Raises:
        ValueError: for flags that say something else of the text's tokens, and a context longer
            than the model's; as `load_gpt2`.
    """
    if own.lm == TRAINED:
        for name in ("lm_revision", "lm_dtype"):
            value = own[name].value
            if value != own[name].default:
                raise ValueError(f"{name}: got {value!r}, allowed: only with --lm=NAME")
        return None
    if own.tokenizer is not None:
        raise ValueError(
            f"tokenizer: got {own.tokenizer!r}, allowed: none, --lm={own.lm} has its own"
        )
    with stages.stage("language model", Path(own.lm), False) as remarks:
        with command.flag_names(name="lm", revision="lm_revision"):
            precision: Any = {"dtype": own.lm_dtype, "matmul_precision": own.lm_matmul_precision}
            loaded = load_gpt2(own.lm, revision=own.lm_revision, **precision)
        most = loaded.model.config.context
        if own.context > most:
            raise ValueError(f"context: got {own.context}, allowed: up to the model's {most}")
        remarks.append(
            f"revision {loaded.about['revision']}, {n_parameters(loaded.model.config):,} parameters"
        )
    return loaded


def as_trained(pretrained: Pretrained, corpus: Corpus) -> TrainedLM:
    """The model as one that a study trained, with its source in the place of a training."""
    run = {
        "config": asdict(pretrained.model.config),
        "pretrained": dict(pretrained.about),
        "corpus": {"source": dict(corpus.manifest["source"]), "checksums": corpus.checksums()},
        "parameters": n_parameters(pretrained.model.config),
        "unigram_entropy": unigram_entropy(corpus.validation),
    }
    return TrainedLM(pretrained.model, [], run)


def packing(own: flags.FlagValues, bos: int) -> Packing:
    """How the flags have the text cut.

    Args:
        own: the flags.
        bos: id of the token that begins every window, where the flags ask for one.

    Raises:
        ValueError: for a context too short for what they ask.
    """
    return Packing(own.context, bos if own.bos else None, own.drop_first)
