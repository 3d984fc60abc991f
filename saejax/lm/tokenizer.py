"""Byte-pair tokens: training a vocabulary, and the tokenizer.json that keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from saejax.checks import check_whole

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"


def _tokenizers() -> ModuleType:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError('text needs tokenizers: pip install "saejax[lm]"') from error
    return tokenizers


def train_tokenizer(documents: Iterable[str], vocab_size: int = 4096) -> Tokenizer:
    """Byte-level byte-pair vocabulary of GPT-2's kind, learned from documents.

    All 256 bytes are tokens, so that any text can be written; token 0 is `<|endoftext|>`. The same
    documents in the same order give the same vocabulary.

    Args:
        documents: text to learn from.
        vocab_size: number of tokens, with the end-of-text token.

    Raises:
        ValueError: `vocab_size: got X, allowed: ...`; also where the text is too short for it.
        ImportError: where tokenizers is not installed.

    Source: "Language models are unsupervised multitask learners" (Radford et al., 2019), section 2.2.
    """
    vocab_size = check_whole(
        "vocab_size", vocab_size, "a whole number, 257 or more", lambda v: v >= 257
    )
    lib = _tokenizers()
    tokenizer = lib.Tokenizer(lib.models.BPE())
    tokenizer.pre_tokenizer = lib.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = lib.decoders.ByteLevel()
    trainer = lib.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=lib.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(
            f"vocab_size: got {vocab_size}, allowed with this text: up to {tokenizer.get_vocab_size()}"
        )
    return as_plain(tokenizer)


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, such as the one kept with a corpus or GPT-2's.

    Raises:
        FileNotFoundError: where the file is absent.
        ValueError: where it is not a tokenizer.json, or has no `<|endoftext|>`.
        ImportError: where tokenizers is not installed.
    """
    lib = _tokenizers()
    text = Path(path).read_text(encoding="utf-8")
    try:
        tokenizer = lib.Tokenizer.from_str(text)
    # The package raises a bare Exception for any text that it cannot read.
    except Exception as error:
        raise ValueError(f"{path}: got a file that is damaged, allowed: a tokenizer.json") from error
    return as_plain(tokenizer)


def find_tokenizer(name: str, revision: str | None = None) -> Tokenizer:
    """The tokenizer of a file, or of a model on the Hugging Face hub.

    Args:
        name: path of a tokenizer.json; where there is no such file, owner/name of a model.
        revision: commit of the model; a name that moves makes the tokens move too.

    Raises:
        ValueError: as `load_tokenizer`.
        ImportError: for a model of the hub, where huggingface_hub is not installed.
        OSError: where the hub does not answer or has no such model.
    """
    if Path(name).is_file():
        return load_tokenizer(name)
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f'tokenizer: got {name!r}, which is no file; the hub needs pip install "saejax[lm]"'
        ) from error
    return load_tokenizer(huggingface_hub.hf_hub_download(name, "tokenizer.json", revision=revision))


def as_plain(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, told to read the text `<|endoftext|>` in a document as the characters it is.

    Raises:
        ValueError: where `<|endoftext|>` is not one of its tokens.
    """
    end_of_text(tokenizer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def end_of_text(tokenizer: Tokenizer) -> int:
    """Id of the token that ends a document.

    Raises:
        ValueError: where `<|endoftext|>` is not one of its tokens.
    """
    token = tokenizer.token_to_id(END_OF_TEXT)
    if token is None:
        raise ValueError(f"tokenizer: got one without {END_OF_TEXT!r}, allowed: one that has it")
    return token
