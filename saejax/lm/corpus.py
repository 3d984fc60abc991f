"""Text as one array of tokens on disk, split into training and validation by document.

A corpus is a folder with

    corpus.json          where the text is from, sizes, and a SHA-256 of every other file
    tokenizer.json       the byte-pair vocabulary
    train.bin            token ids, uint16 or uint32, every document closed by <|endoftext|>
    train_documents.npy  int64 [documents + 1]: where each document begins, then the number of
                         tokens
    validation.bin, validation_documents.npy   likewise
"""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, Integer

from saejax.core.checks import check_number, check_whole
from saejax.core.extras import require
from saejax.core.files import checksums, new_folder, read_json, sha256_of, write_text
from saejax.lm.tokenizer import as_plain, end_of_text, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPLITS = ("train", "validation")
# Tables, demonstrations and tests are no text to learn from, and some of the folders are missing
# where a distribution packs them apart.
LEFT_OUT = {"__phello__", "__pycache__", "dist-packages", "distutils", "encodings", "ensurepip"}
LEFT_OUT |= {"idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests", "tkinter"}
LEFT_OUT |= {"turtledemo"}


@runtime_checkable
class TextSource(Protocol):
    """Where text comes from: documents in an order that never changes."""

    def describe(self) -> dict[str, Any]:
        """Settings to write down beside the results, JSON types only."""
        ...

    def documents(self) -> Iterator[str]:
        """The documents from the first on, the same at every call."""
        ...


@dataclass(frozen=True)
class StandardLibrary:
    """The Python standard library: its sources with their docstrings, and the language reference.

    A document is a module's .py file, in the order of their paths, without tests, tables and the
    parts that some distributions pack apart (`LEFT_OUT`); then each topic of `pydoc_data`, English
    prose. About 8 MB with Python 3.11; another Python has another text. `documents` raises
    FileNotFoundError where Python keeps its library in no folder.
    """

    def describe(self) -> dict[str, Any]:
        return {"type": "python standard library", "python": sys.version.split()[0]}

    def documents(self) -> Iterator[str]:
        root = Path(sysconfig.get_paths()["stdlib"])
        files = sorted(
            (path.relative_to(root).parts, path)
            for path in root.rglob("*.py")
            if not LEFT_OUT & set(path.relative_to(root).parts[:-1])
            # The settings of the machine on which Python was built.
            and not path.name.startswith("_sysconfigdata")
        )
        if not files:
            raise FileNotFoundError(f"{root}: holds no .py file; allowed: Python with its library")
        for _, path in files:
            with tokenize.open(path) as file:
                yield file.read()
        # Imported late: 700 kB that nothing else needs.
        from pydoc_data.topics import topics

        for name in sorted(topics):
            yield topics[name]


@dataclass(frozen=True)
class TextFolder:
    """The text files of a folder and its subfolders, a document each, in the order of their paths.

    Args:
        folder: the folder.
        pattern: which files, as in `pathlib.Path.rglob`.

    Raises, on `documents`:
        FileNotFoundError: for a folder that is absent or has no such file.
        ValueError: naming a file that is not UTF-8.
    """

    folder: str
    pattern: str = "*.txt"

    def describe(self) -> dict[str, Any]:
        return {"type": "folder", **asdict(self)}

    def documents(self) -> Iterator[str]:
        root = Path(self.folder)
        files = sorted(
            (p.relative_to(root).parts, p) for p in root.rglob(self.pattern) if p.is_file()
        )
        if not files:
            got = f"got {self.folder!r}, which holds no {self.pattern}"
            raise FileNotFoundError(f"folder: {got}, allowed: a folder of text")
        for _, path in files:
            try:
                yield path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                problem = "got bytes that are no UTF-8, allowed: UTF-8 text"
                raise ValueError(f"{path}: {problem}") from error


@dataclass(frozen=True)
class HuggingFace:
    """A text data set of the Hugging Face hub, streamed: nothing is stored but the tokens.

    Args:
        dataset: name on the hub, such as `Skylion007/openwebtext`.
        subset: which of its configurations, None for the only one.
        split: which part.
        column: that holds the text.
        revision: commit of the data set; a branch moves, and the text with it.
        n_documents: how many documents to read from its beginning; None for all.

    Raises, on `documents`:
        ValueError: for a column that the data set lacks.
        ImportError: where datasets is not installed.
    """

    dataset: str
    subset: str | None = None
    split: str = "train"
    column: str = "text"
    revision: str | None = None
    n_documents: int | None = None

    def __post_init__(self) -> None:
        if self.n_documents is not None:
            allowed = "None or a whole number, 1 or more"
            n = check_whole("n_documents", self.n_documents, allowed, lambda v: v >= 1)
            object.__setattr__(self, "n_documents", n)

    def describe(self) -> dict[str, Any]:
        return {"type": "hugging face", **asdict(self)}

    def documents(self) -> Iterator[str]:
        datasets = require("datasets", "datasets", "text of the hub", "lm")
        try:
            rows = datasets.load_dataset(
                self.dataset, self.subset, split=self.split, revision=self.revision, streaming=True
            )
        except RuntimeError as error:
            # Newer versions of the package run no scripts of a data set.
            raise ValueError(
                f"dataset: got {self.dataset!r} ({error}), allowed: one of data files; the branch "
                "refs/convert/parquet (as revision) has them for most data sets"
            ) from error
        for row in islice(rows, self.n_documents):
            if self.column not in row:
                raise ValueError(f"column: got {self.column!r}, allowed: {', '.join(row)}")
            yield row[self.column]


@dataclass(frozen=True)
class Corpus:
    """The tokens of a text, memory-mapped.

    Attributes:
        folder: where they lie.
        manifest: what corpus.json says: source, sizes, checksums.
        train: token ids, documents one after the other, each closed by `<|endoftext|>`.
        validation: likewise.
        train_documents: where each document begins, and behind the last the number of tokens.
        validation_documents: likewise.
    """

    folder: Path
    manifest: Mapping[str, Any]
    train: Integer[np.ndarray, " tokens"]
    validation: Integer[np.ndarray, " tokens_of_validation"]
    train_documents: Int64[np.ndarray, " bounds"]
    validation_documents: Int64[np.ndarray, " bounds_of_validation"]

    @property
    def vocab_size(self) -> int:
        return self.manifest["vocab_size"]

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens, see `load_tokenizer`."""
        return load_tokenizer(self.folder / "tokenizer.json")

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file; corpora with the same checksums hold the same tokens."""
        return {name: file["sha256"] for name, file in self.manifest["files"].items()}


def is_validation(document: str, share: float) -> bool:
    """Whether a document belongs to the validation split. Equal documents are on the same side.

    It does if the first 8 bytes of its SHA-256, read as a number in [0, 1), are below the share.
    """
    head = hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest()[:8]
    return int.from_bytes(head, "big") < share * 2**64


def build_corpus(
    source: TextSource,
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    validation_share: float = 0.1,
    about: Mapping[str, Any] | None = None,
) -> Corpus:
    """Turns text into tokens on disk, reading the source once.

    The folder is whole or absent.

    Args:
        source: of the documents; those that are empty are left out.
        tokenizer: of `train_tokenizer` or `load_tokenizer`; kept with the tokens.
        folder: where to; must be absent or empty.
        validation_share: of the documents, see `is_validation`.
        about: where the tokenizer is from, JSON types, kept in corpus.json.

    Raises:
        FileExistsError: when something is in the way; nothing is touched then.
        ValueError: for a share outside (0, 1), and where a split would be empty.
    """
    allowed = "above 0, below 1 (a number)"
    share = check_number("validation_share", validation_share, allowed, lambda v: 0 < v < 1)
    tokenizer = as_plain(tokenizer)
    folder = Path(folder)
    message = f"folder: got {str(folder)!r}, which holds something, allowed: an empty one"
    with new_folder(folder, message) as part:
        _write(source, tokenizer, part, share, about or {})
    return load_corpus(folder)


def _write(
    source: TextSource, tokenizer: Tokenizer, part: Path, share: float, about: Mapping[str, Any]
) -> None:
    vocab_size, end = tokenizer.get_vocab_size(), end_of_text(tokenizer)
    dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
    bounds: dict[str, list[int]] = {name: [0] for name in SPLITS}
    n_bytes = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((part / f"{name}.bin").open("wb")) for name in SPLITS}
        documents = filter(None, source.documents())
        while batch := list(islice(documents, 256)):
            for document, encoding in zip(batch, tokenizer.encode_batch_fast(batch), strict=True):
                name = SPLITS[is_validation(document, share)]
                ids = np.array([*encoding.ids, end], dtype)
                files[name].write(ids.tobytes())
                bounds[name].append(bounds[name][-1] + len(ids))
                n_bytes += len(document.encode("utf-8", "surrogatepass"))
    for name in SPLITS:
        if len(bounds[name]) == 1:
            n_documents = sum(len(b) - 1 for b in bounds.values())
            raise ValueError(
                f"validation_share: got {share}, allowed: one that leaves a document to each "
                f"split of the {n_documents} documents (the {name} split is empty)"
            )
        np.save(part / f"{name}_documents.npy", np.array(bounds[name], np.int64))
    tokenizer.save(str(part / "tokenizer.json"))
    manifest = {
        "source": source.describe(),
        "tokenizer": dict(about),
        "text_megabytes": n_bytes / 1e6,
        "validation_share": share,
        "vocab_size": vocab_size,
        "dtype": dtype.name,
        "tokens": {name: bounds[name][-1] for name in SPLITS},
        "documents": {name: len(bounds[name]) - 1 for name in SPLITS},
        "files": checksums(sorted(part.iterdir())),
    }
    write_text(part / "corpus.json", json.dumps(manifest, indent=1))


def load_corpus(folder: str | Path) -> Corpus:
    """The corpus of a folder, after comparing every file's size and checksum with corpus.json.

    Raises:
        FileNotFoundError: where the folder holds no corpus, or a file of it is missing.
        ValueError: naming the file that is damaged.
    """
    folder = Path(folder)
    path = folder / "corpus.json"
    manifest = read_json(path, "a corpus")
    try:
        files, dtype = dict(manifest["files"]), np.dtype(manifest["dtype"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: got a damaged file, allowed: what was written") from error
    for name, file in files.items():
        if not (folder / name).exists():
            raise FileNotFoundError(f"{folder / name}: missing; corpus.json names it")
        n_bytes = (folder / name).stat().st_size
        if n_bytes != file["bytes"]:
            raise ValueError(
                f"{folder / name}: got {n_bytes} bytes, allowed: the {file['bytes']} of corpus.json"
            )
        if sha256_of(folder / name) != file["sha256"]:
            raise ValueError(
                f"{folder / name}: got other bytes than were written, allowed: unaltered"
            )
    arrays: dict[str, Any] = {}
    for name in SPLITS:
        arrays[name] = np.memmap(folder / f"{name}.bin", dtype.newbyteorder("<"), mode="r")
        arrays[f"{name}_documents"] = np.load(folder / f"{name}_documents.npy", allow_pickle=False)
    return Corpus(folder=folder, manifest=manifest, **arrays)


def unigram_entropy(tokens: Integer[np.ndarray, " tokens"]) -> float:
    """Entropy `-sum_v p_v ln p_v` in nats, p_v the share of token v among the tokens.

    No model that ignores the context can have a lower loss on these tokens. At least one is needed.
    """
    if not tokens.size:
        raise ValueError("tokens: got none, allowed: 1 or more")
    counts = np.bincount(tokens)
    p = counts[counts > 0] / tokens.size
    return float(-(p * np.log(p)).sum())


def document_ids(
    bounds: Int64[np.ndarray, " bounds"], at: Integer[np.ndarray, "*rows"]
) -> Int64[np.ndarray, "*rows"]:
    """The document of the tokens at the places `at`, counted from 0.

    `bounds` is `train_documents` or `validation_documents` of a corpus.
    """
    return np.searchsorted(bounds, at, side="right") - 1
