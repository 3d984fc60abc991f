"""Byte-pair tokens: training a vocabulary, and the tokenizer.json that keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saejax.core.checks import check_whole
from saejax.core.extras import require

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"


def _tokenizers() -> Any:
    return require("tokenizers", "tokenizers", "text", "lm")


def train_tokenizer(documents: Iterable[str], vocab_size: int = 4096) -> Tokenizer:
    """Byte-level byte-pair vocabulary of GPT-2's kind, learned from documents.

    All 256 bytes are among the `vocab_size` tokens, so that any text can be written; token 0 is
    `<|endoftext|>`. The same documents in the same order give the same vocabulary.

    Raises:
        ValueError: `vocab_size: got X, allowed: ...`; also where the text is too short for it.
        ImportError: where tokenizers is not installed.

    Source: "Language models are unsupervised multitask learners" (Radford et al., 2019), section
    2.2.
    """
    allowed = "a whole number, 257 or more"
    vocab_size = check_whole("vocab_size", vocab_size, allowed, lambda v: v >= 257)
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
            f"vocab_size: got {vocab_size}, allowed with this text: up to "
            f"{tokenizer.get_vocab_size()}"
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
        raise ValueError(
            f"{path}: got a file that is damaged, allowed: a tokenizer.json"
        ) from error
    return as_plain(tokenizer)


def find_tokenizer(name: str, revision: str | None = None) -> Tokenizer:
    """The tokenizer of a file, or of a model: of its folder or on the Hugging Face hub.

    Args:
        name: path of a tokenizer.json, or of a folder with one; where there is neither, owner/name
            of a model.
        revision: commit of the model; a branch moves, and the tokens with it.

    Raises, beside what `load_tokenizer` does:
        ImportError: for a model of the hub, where huggingface_hub is not installed.
        OSError: where the hub does not answer or has no such model.
    """
    if Path(name).is_file():
        return load_tokenizer(name)
    if Path(name).is_dir():
        return load_tokenizer(Path(name) / "tokenizer.json")
    wanted = f"tokenizer: got {name!r}, which is no file; the hub"
    hub = require("huggingface_hub", "huggingface_hub", wanted, "lm")
    path = hub.hf_hub_download(name, "tokenizer.json", revision=revision)
    return load_tokenizer(path)


def as_plain(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, set to read the text `<|endoftext|>` in a document as ordinary characters.

    Raises as `end_of_text`.
    """
    end_of_text(tokenizer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def end_of_text(tokenizer: Tokenizer) -> int:
    """Id of the token `<|endoftext|>`, which ends a document; a ValueError where there is none."""
    token = tokenizer.token_to_id(END_OF_TEXT)
    if token is None:
        raise ValueError(f"tokenizer: got one without {END_OF_TEXT!r}, allowed: one that has it")
    return token


def _bytes_of_characters() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for.

    Bytes that Latin-1 prints stand for themselves, the others for characters from 256 on.
    """
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = {chr(256 + n): byte for n, byte in enumerate(sorted({*range(256)} - plain))}
    return {chr(byte): byte for byte in plain} | others


def token_texts(tokenizer: Tokenizer, vocab_size: int | None = None) -> tuple[str, ...]:
    r"""The text of every token id, to be shown to people.

    A token is a sequence of bytes, and characters outside ASCII are several bytes that need not
    share a token. Bytes that are no whole character are shown as `\xe2`. Added tokens such as
    `<|endoftext|>` are shown by name, ids of no token as `<no token 17>`. So different ids may have
    the same text, and the texts of a sequence put together are not always the text that it is of.

    Of `vocab_size` ids, such as a model's; None for those up to the tokenizer's largest.

    Raises:
        ValueError: for a tokenizer that is not of byte-level pairs, as GPT-2's is, and one with ids
            of `vocab_size` or more.

    Source: the table of bytes is that of GPT-2's encoder.py, `bytes_to_unicode`.
    """
    if not isinstance(tokenizer.decoder, _tokenizers().decoders.ByteLevel):
        kind = type(tokenizer.decoder).__name__
        raise ValueError(f"tokenizer: got one with the decoder {kind}, allowed: ByteLevel")
    tokens = {i: token for token, i in tokenizer.get_vocab(with_added_tokens=True).items()}
    n = max(tokens) + 1
    allowed = f"None, or a whole number from {n}, the tokenizer's, on"
    size = n if vocab_size is None else vocab_size
    size = check_whole("vocab_size", size, allowed, lambda v: v >= n)
    added, table = tokenizer.get_added_tokens_decoder(), _bytes_of_characters()

    def text(i: int) -> str:
        if i in added:
            return added[i].content
        if i not in tokens:
            return f"<no token {i}>"
        if not table.keys() >= set(tokens[i]):
            raise ValueError(f"tokenizer: got the token {tokens[i]!r}, allowed: byte-level ones")
        return bytes(table[c] for c in tokens[i]).decode("utf-8", errors="backslashreplace")

    return tuple(text(i) for i in range(size))
