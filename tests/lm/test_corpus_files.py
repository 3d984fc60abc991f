"""A corpus on disk: the split by document, and files that are not as they were written."""

import sys
import types

import numpy as np
import pytest
from helpers.texts import TEXTS

from saejax.lm.corpus import build_corpus, document_ids, is_validation, load_corpus, unigram_entropy
from saejax.lm.tokenizer import END_OF_TEXT, as_plain, find_tokenizer


class Lines:
    """Documents from a list."""

    def __init__(self, texts=TEXTS):
        self.texts = texts

    def describe(self):
        return {"type": "lines", "n": len(self.texts)}

    def documents(self):
        return iter(self.texts)


@pytest.fixture(scope="module")
def built(tmp_path_factory, tokenizer):
    return build_corpus(
        Lines(), tokenizer, tmp_path_factory.mktemp("built") / "c", validation_share=0.3
    )


def copy(corpus, target):
    target.mkdir()
    for path in corpus.folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


# -------------------------------------------------------------------------------------------- build


def test_the_tokens_are_the_documents_in_order_each_closed(built, tokenizer):
    for name, side in (("train", False), ("validation", True)):
        texts = [t for t in TEXTS if is_validation(t, 0.3) == side]
        expected = [[*tokenizer.encode(t).ids, 0] for t in texts]
        tokens, bounds = getattr(built, name), getattr(built, f"{name}_documents")
        assert texts
        np.testing.assert_array_equal(tokens, np.concatenate(expected))
        np.testing.assert_array_equal(bounds, np.cumsum([0, *map(len, expected)]))
        assert built.manifest["tokens"][name] == len(tokens)
        assert built.manifest["documents"][name] == len(texts)
    assert built.train.dtype == np.uint16
    assert isinstance(built.train, np.memmap)
    assert built.vocab_size == 300
    assert built.tokenizer().encode("cat").ids == tokenizer.encode("cat").ids
    assert built.manifest["source"] == {"type": "lines", "n": 40}
    assert built.manifest["text_megabytes"] == pytest.approx(
        sum(len(t.encode()) for t in TEXTS) / 1e6
    )


def test_equal_documents_share_a_side_and_the_share_is_kept():
    texts = [str(i) for i in range(4000)]
    low, high = ({t for t in texts if is_validation(t, share)} for share in (0.1, 0.25))
    assert low < high
    # Four standard deviations of a binomial.
    assert abs(len(low) / 4000 - 0.1) < 4 * (0.1 * 0.9 / 4000) ** 0.5
    # The first 8 bytes of SHA-256("abc") are ba7816bf..., 0.72839 of the range.
    assert [is_validation("abc", s) for s in (0.7283, 0.7284)] == [False, True]


def test_the_same_text_gives_the_same_files(built, tokenizer, tmp_path):
    again = build_corpus(Lines(), tokenizer, tmp_path / "c", validation_share=0.3)
    assert again.checksums() == built.checksums()
    assert set(again.checksums()) == {p.name for p in built.folder.iterdir()} - {"corpus.json"}
    for path in built.folder.iterdir():
        assert (tmp_path / "c" / path.name).read_bytes() == path.read_bytes()


def test_vocabularies_beyond_16_bits_are_kept_in_32(tokenizer, tmp_path, monkeypatch):
    many = types.SimpleNamespace(
        token_to_id=tokenizer.token_to_id,
        get_vocab_size=lambda: 70_000,
        save=tokenizer.save,
        encode_batch_fast=lambda texts: [types.SimpleNamespace(ids=[69_999]) for _ in texts],
    )
    corpus = build_corpus(Lines(), many, tmp_path / "c", validation_share=0.3)
    assert corpus.train.dtype == np.uint32
    assert corpus.train[:2].tolist() == [69_999, 0]


def test_empty_documents_are_left_out(tokenizer, tmp_path):
    corpus = build_corpus(Lines(["", *TEXTS, ""]), tokenizer, tmp_path / "c", validation_share=0.3)
    assert sum(corpus.manifest["documents"].values()) == len(TEXTS)


def test_a_build_that_fails_leaves_nothing(tokenizer, tmp_path):
    class Breaks(Lines):
        def documents(self):
            yield from TEXTS[:5]
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        build_corpus(Breaks(), tokenizer, tmp_path / "c")
    with pytest.raises(ValueError, match=r"validation_share: got 0\.3, .*1 documents"):
        build_corpus(Lines(TEXTS[:1]), tokenizer, tmp_path / "c", validation_share=0.3)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tokenizer, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"folder: got .*holds something"):
        build_corpus(Lines(), tokenizer, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan"), True])
def test_shares_that_leave_a_split_empty_are_refused(tokenizer, tmp_path, share, unchecked):
    with pytest.raises(ValueError, match=r"validation_share: got .*, allowed: above 0, below 1"):
        build_corpus(Lines(), tokenizer, tmp_path / "c", validation_share=share)


# ------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    "name", ["train.bin", "validation.bin", "train_documents.npy", "tokenizer.json"]
)
def test_files_cut_short_altered_or_missing_are_named(built, tmp_path, name):
    folder = copy(built, tmp_path / "c")
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-2])
    with pytest.raises(ValueError, match=rf"{name}: got {len(data) - 2} bytes, allowed: the"):
        load_corpus(folder)
    (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match=rf"{name}: got other bytes than were written"):
        load_corpus(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}: missing; corpus\.json names it"):
        load_corpus(folder)


def test_folders_without_a_whole_manifest_are_refused(built, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"corpus\.json: got no file, allowed: the corpus"):
        load_corpus(tmp_path)
    folder = copy(built, tmp_path / "c")
    for text in ("{", "[]", "{}", '{"files": {}, "dtype": "nonsense"}'):
        (folder / "corpus.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"corpus\.json: got (a damaged file|list).*, allowed: "
        ):
            load_corpus(folder)


# ------------------------------------------------------------------------------------------ numbers


def test_entropy_of_a_uniform_and_of_a_known_distribution():
    assert unigram_entropy(np.arange(8, dtype=np.uint16).repeat(3)) == pytest.approx(np.log(8))
    assert unigram_entropy(np.array([5, 5, 5, 5])) == 0
    # p = 1/2, 1/4, 1/4: 1.5 bits.
    assert unigram_entropy(np.array([0, 0, 9, 4])) == pytest.approx(1.5 * np.log(2))
    with pytest.raises(ValueError, match="tokens: got none, allowed: 1 or more"):
        unigram_entropy(np.array([], np.uint16))


def test_a_token_belongs_to_the_document_around_it():
    bounds = np.array([0, 3, 4, 9])
    at = np.array([[0, 2, 3], [4, 8, 5]])
    assert document_ids(bounds, at).tolist() == [[0, 0, 1], [2, 2, 2]]


def test_a_tokenizer_from_elsewhere_is_told_to_read_plain_text(tokenizer):
    other = type(tokenizer).from_str(tokenizer.to_str())
    other.encode_special_tokens = False
    assert 0 in other.encode(END_OF_TEXT).ids
    assert 0 not in as_plain(other).encode(END_OF_TEXT).ids


def test_where_the_tokenizer_is_from_is_kept(tmp_path, tokenizer):
    about = {"name": "somewhere", "revision": None}
    built = build_corpus(Lines(), tokenizer, tmp_path / "c", validation_share=0.3, about=about)
    assert built.manifest["tokenizer"] == about
    assert load_corpus(tmp_path / "c").manifest["tokenizer"] == about


def test_a_tokenizer_is_found_in_a_file_or_on_the_hub(tmp_path, tokenizer, monkeypatch):
    file = tmp_path / "some.json"
    tokenizer.save(str(file))
    asked = []

    def hf_hub_download(repo_id, filename, revision=None):
        asked.append((repo_id, filename, revision))
        return str(file)

    stub = types.SimpleNamespace(hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stub)
    vocabulary = tokenizer.get_vocab()
    assert find_tokenizer(str(file)).get_vocab() == vocabulary
    assert asked == []
    assert find_tokenizer("openai-community/gpt2", "607a30d").get_vocab() == vocabulary
    assert asked == [("openai-community/gpt2", "tokenizer.json", "607a30d")]


def test_a_tokenizer_of_the_hub_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ImportError, match=r"tokenizer: got 'no/file', .* pip install \"saejax\[lm\]\""
    ):
        find_tokenizer("no/file")
