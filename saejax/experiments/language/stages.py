"""The first stages of a study of a language model: text, model, activations, and their flags.

A stage whose folder is whole is reused, one that was interrupted goes on, and one that was made
with other settings is an error that names them. Nothing is overwritten.
"""

import hashlib
import json
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm.auto import tqdm

from saejax.core.diff import differences
from saejax.core.precision import PRECISIONS
from saejax.data.store.manifest import DTYPES, MANIFEST, StoreConfig, read_manifest
from saejax.data.store.reader import Store
from saejax.data.store.writer import StoreWriter
from saejax.experiments.common.flagtable import define as define_flags
from saejax.experiments.common.stages import Stages
from saejax.lm.corpus import (
    Corpus,
    HuggingFace,
    StandardLibrary,
    TextFolder,
    TextSource,
    build_corpus,
    is_validation,
    load_corpus,
)
from saejax.lm.gpt2 import Pretrained
from saejax.lm.harvest import Packing, harvest
from saejax.lm.model import GPTConfig, hook_width
from saejax.lm.settings import LMSettings
from saejax.lm.tokenizer import find_tokenizer, train_tokenizer
from saejax.lm.training import TrainedLM, is_finished, train_lm

# Tokens that the model sees at once.
HARVEST_TOKENS = 8192
TEXTS = ("stdlib", "folder", "hub")


def define(own: flags.FlagValues, hook: str) -> None:
    """The flags of text, model and activations; the defaults are those of the quick runs."""
    tokenizer = (
        "A tokenizer.json, or a model of the hub that has one, such as "
        "openai-community/gpt2. Default: byte pairs are learned from the text."
    )
    texts = "Python's standard library, the text files of --folder, or a --dataset of the hub."
    define_flags(
        own,
        str,
        workdir_lm=(None, "Folder of text and language model. Default: lm in the workdir."),
        store=(None, "Folder of the activations. Default: store in the workdir."),
        folder=(None, "Folder of text files."),
        pattern=("*.txt", "Which files of the folder."),
        dataset=(None, "Data set of the Hugging Face hub, as owner/name."),
        subset=(None, "Configuration of the data set."),
        split=("train", "Part of the data set."),
        column=("text", "Column that holds the text."),
        revision=(None, "Commit of the data set."),
        tokenizer=(None, tokenizer),
        tokenizer_revision=(None, "Commit of that model."),
        hook=(hook, "Which activation of the language model is studied."),
    )
    define_flags(own, TEXTS, text=("stdlib", texts))
    define_flags(own, PRECISIONS, lm_matmul_precision=("highest", "Operands of its products."))
    define_flags(own, list(DTYPES), store_dtype=("float16", "Numbers in the store."))
    define_flags(
        own,
        int,
        n_documents=(None, "Documents read. Default: all."),
        vocab_size=(4096, "Number of tokens that are learned."),
        tokenizer_documents=(None, "Documents that tokens are learned from. Default: all."),
        context=(128, "Longest sequence of the language model."),
        n_layers=(6, "Its blocks."),
        d_model=(32, "Width of its residual stream."),
        d_mlp=(128, "Width of its MLPs."),
        n_heads=(4, "Its attention heads."),
        lm_steps=(3000, "Its training steps."),
        lm_batch_size=(16, "Windows in one of them."),
        lm_warmup_steps=(150, "Steps in which its learning rate rises."),
        lm_eval_every=(250, "Steps between its evaluations and checkpoints."),
        lm_eval_windows=(256, "Windows in an evaluation."),
        lm_seed=(0, "Seed of its weights and batches."),
        rows=(1_000_000, "Activations harvested, from the beginning of the training text."),
        rows_per_shard=(65_536, "Activations in a file."),
    )
    define_flags(
        own,
        float,
        validation_share=(0.1, "Share of the documents held out."),
        lm_lr=(1e-2, "Highest learning rate of the language model."),
    )


def source(own: flags.FlagValues) -> TextSource:
    """The text that the flags name.

    Raises:
        ValueError: naming the flag that is missing or too many.
    """
    for text, name in (("folder", "folder"), ("hub", "dataset")):
        needed, given = own.text == text, own[name].value
        if needed != (given is not None):
            allowed = f"{'a name,' if needed else 'only'} with --text={text}"
            raise ValueError(f"{name}: got {given!r}, allowed: {allowed}")
    if own.text == "folder":
        return TextFolder(own.folder, own.pattern)
    if own.text == "hub":
        return HuggingFace(
            own.dataset, own.subset, own.split, own.column, own.revision, own.n_documents
        )
    if own.n_documents is not None:
        raise ValueError(f"n_documents: got {own.n_documents}, allowed: only with --text=hub")
    return StandardLibrary()


def settings(own: flags.FlagValues, vocab_size: int | None = None) -> tuple[GPTConfig, LMSettings]:
    """Shape and training of the language model.

    Args:
        own: the flags.
        vocab_size: of the text, once it is known; before, that of the flags stands in.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """
    config = GPTConfig(
        own.vocab_size if vocab_size is None else vocab_size,
        own.context,
        own.n_layers,
        own.d_model,
        own.d_mlp,
        own.n_heads,
        matmul_precision=own.lm_matmul_precision,
    )
    hook_width(config, own.hook)
    names: list[str] = [field.name for field in fields(LMSettings) if f"lm_{field.name}" in own]
    given: dict[str, Any] = {name: own[f"lm_{name}"].value for name in names}
    try:
        training = LMSettings(**given)
    except ValueError as error:
        # The flags carry the prefix that the settings do not need.
        raise ValueError(f"lm_{error}") from None
    if own.rows < 1:
        raise ValueError(f"rows: got {own.rows}, allowed: 1 or more")
    return config, training


def text(
    own: flags.FlagValues, stages: Stages, folder: Path, pretrained: Pretrained | None = None
) -> Corpus:
    """Text as tokens, made or reused.

    Args:
        own: the flags.
        stages: of the study.
        folder: where the tokens lie.
        pretrained: a model whose tokenizer is used; None for that of the flags, or one that is
            learned.

    Raises:
        ValueError: for text of other settings in the folder, and files that are damaged.
    """
    chosen = source(own)
    learned = {"documents": own.tokenizer_documents, "vocab_size": own.vocab_size}
    named = {"name": own.tokenizer, "revision": own.tokenizer_revision}
    about = named if own.tokenizer else learned
    if pretrained is not None:
        about = {name: pretrained.about[name] for name in named}
    share = own.validation_share
    wanted = {"source": chosen.describe(), "tokenizer": about, "validation_share": share}
    reused = (folder / "corpus.json").exists()
    with stages.stage("text", folder, reused) as remarks:
        if reused:
            corpus = load_corpus(folder)
            there = {name: corpus.manifest.get(name) for name in wanted}
            refuse("workdir_lm", folder, differences(wanted, there))
        else:
            if pretrained is not None:
                tokenizer = pretrained.tokenizer()
            elif own.tokenizer:
                tokenizer = find_tokenizer(own.tokenizer, own.tokenizer_revision)
            else:
                kept = (text for text in chosen.documents() if not is_validation(text, share))
                some = islice(kept, own.tokenizer_documents or None)
                tokenizer = train_tokenizer(some, own.vocab_size)
            corpus = build_corpus(chosen, tokenizer, folder, validation_share=share, about=about)
        remarks.append(
            f"{corpus.manifest['text_megabytes']:.1f} MB, {corpus.train.size:,} training tokens "
            f"and {corpus.validation.size:,} for validation, {corpus.vocab_size:,} different ones"
        )
    return corpus


def language_model(
    own: flags.FlagValues, stages: Stages, corpus: Corpus, folder: Path
) -> TrainedLM:
    """The language model, trained, trained on, or reused.

    Raises:
        ValueError: as `saejax.lm.training.train_lm`.
    """
    config, training = settings(own, corpus.vocab_size)
    with stages.stage("language model", folder, is_finished(folder)) as remarks:
        lm = train_lm(config, training, corpus, folder)
        remarks.append(
            f"{lm.run['parameters']:,} parameters, validation loss "
            f"{lm.rows[-1]['validation_loss']:.3f} nats, unigram entropy "
            f"{lm.run['unigram_entropy']:.3f} nats"
        )
    return lm


def activations(
    own: flags.FlagValues,
    stages: Stages,
    lm: TrainedLM,
    corpus: Corpus,
    folder: Path,
    packing: Packing | None = None,
) -> Store:
    """The activations of the first `--rows` training tokens, harvested, continued or reused.

    Args:
        own: the flags.
        stages: of the study.
        lm: the model.
        corpus: the text.
        folder: where the store lies.
        packing: how the text is cut; None for windows of the model's context and all positions.

    Raises:
        ValueError: for a store of another model, text, hook or length, for more rows than the text
            has, and naming the file, for a shard that is truncated or altered.
        OSError: from the disk; the store keeps its complete shards.
    """
    cut = Packing(lm.model.config.context) if packing is None else packing
    most = cut.rows(corpus.train.size)
    if own.rows > most:
        raise ValueError(
            f"rows: got {own.rows}, allowed: up to {most}, the whole windows of the text"
        )
    names = ("config", "settings", "pretrained", "corpus")
    made_by = {name: lm.run[name] for name in names if name in lm.run}
    if cut != Packing(lm.model.config.context):
        made_by["packing"] = asdict(cut)
    config = StoreConfig(
        model={**made_by, "weights": digest(lm.model), "rows": own.rows},
        hook=own.hook,
        d=hook_width(lm.model.config, own.hook),
        dtype=own.store_dtype,
        rows_per_shard=own.rows_per_shard,
    )
    reused = (folder / MANIFEST).exists() and read_manifest(folder).complete
    with stages.stage("activations", folder, reused) as remarks:
        if reused:
            store = Store.open(folder, verify=True)
            refuse("store", folder, store.config.differences(config))
        else:
            with StoreWriter(folder, config) as writer:
                _harvest(writer, lm, corpus, cut, own.rows)
            store = Store.open(folder)
        remarks.append(f"{len(store):,} rows of {store.d} numbers at {own.hook}")
    return store


def _harvest(
    writer: StoreWriter, lm: TrainedLM, corpus: Corpus, packing: Packing, stop: int
) -> None:
    """Writes the activations of the first rows that the store does not have yet."""
    at_once = max(1, min(64, HARVEST_TOKENS // packing.context))
    start = writer.rows_stored
    cut: dict[str, Any] = {"start": start, "stop": stop, "packing": packing, "batch_size": at_once}
    text, hook = (corpus.train, corpus.train_documents), writer.config.hook
    with tqdm(total=stop, desc="activations") as bar:
        bar.update(start)
        for rows in harvest(lm.model, *text, hook, **cut):
            writer.append(rows.activations, rows.token_ids, rows.positions)
            bar.update(len(rows.token_ids))
        writer.finish()


def digest(model: Any) -> str:
    """SHA-256 of all weights of a model: which training, on which machine, they are from."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(model):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()


def refuse(flag: str, folder: Path, different: list[str]) -> None:
    """Refuses a stage that was made with other settings; `different` as `differences` has it.

    Raises:
        ValueError: naming the flag of the folder and every setting, where there are any.
    """
    if different:
        raise ValueError(
            f"{flag}: got {str(folder)!r}, which was made with other settings: "
            f"{'; '.join(different)}"
        )


def summary(lm: TrainedLM, corpus: Corpus) -> dict[str, Any]:
    """What a report says of text and model, JSON types."""
    about = {k: v for k, v in corpus.manifest.items() if k != "files"}
    names = ("config", "settings", "parameters", "unigram_entropy", "pretrained")
    run = {k: lm.run[k] for k in names if k in lm.run}
    return json.loads(json.dumps({"corpus": about, "lm": {**run, "rows": lm.rows}}))
