"""Texts of tokens."""

import re

import numpy as np
import pytest
from helpers.gpt2_files import random_tensors, write

from saejax.lm.gpt2 import load_gpt2
from saejax.lm.model import hook_names
from saejax.lm.tokenizer import END_OF_TEXT, find_tokenizer, token_texts, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["漢字 is the cat of the élan\n\tvital"] * 20, 280)


def test_texts_of_tokens_are_what_their_bytes_say(tokenizer):
    texts = token_texts(tokenizer)
    assert len(texts) == tokenizer.get_vocab_size() == 280
    assert texts[0] == END_OF_TEXT
    # Each of the 256 bytes is a token: those of ASCII as they are, the others by number.
    ascii_bytes = {chr(b) for b in range(128)}
    assert set(texts[1:257]) == ascii_bytes | {rf"\x{b:02x}" for b in range(128, 256)}
    # What is whole in one token is what the tokenizer's own decoder says.
    decoded = [tokenizer.decode([i], skip_special_tokens=False) for i in range(257, 280)]
    assert [a for a in decoded if "\ufffd" not in a] == [
        b for a, b in zip(decoded, texts[257:], strict=True) if "\ufffd" not in a
    ]
    assert {" the", "élan"} < set(texts)


@pytest.mark.parametrize("text", ["€", " the élan", "字€ is 漣\n", "\u00ad\u00a0\t"])
def test_pieces_of_characters_are_shown_byte_by_byte(tokenizer, text):
    pieces = [token_texts(tokenizer)[i] for i in tokenizer.encode(text).ids]
    # Escapes back to bytes, all else to its UTF-8: together they are the text's bytes.
    parts = re.split(r"\\x(..)", "".join(pieces))
    found = b"".join(bytes.fromhex(p) if i % 2 else p.encode() for i, p in enumerate(parts))
    assert found == text.encode()
    if text == "€":
        assert pieces == [r"\xe2", r"\x82", r"\xac"]


def test_a_token_that_ends_inside_a_character_shows_both(tokenizer):
    # Two characters with two bytes in common: the pair that is learned is a space and one and a
    # half.
    pairs = train_tokenizer([" 漢" * 9 + " 漣" * 9], 260)
    assert r" \xe6\xbc" in token_texts(pairs)


def test_ids_without_a_token_have_a_placeholder(tokenizer, unchecked):
    texts = token_texts(tokenizer, 283)
    assert texts[:280] == token_texts(tokenizer)
    assert texts[280:] == ("<no token 280>", "<no token 281>", "<no token 282>")
    for n in (279, 0, 280.0):
        with pytest.raises(
            ValueError, match=f"vocab_size: got {n}, allowed: None, or a whole number fr"
        ):
            token_texts(tokenizer, n)


def test_texts_of_another_kind_of_tokenizer_are_refused():
    from tokenizers import Tokenizer, decoders, models

    words = Tokenizer(models.WordPiece({"[UNK]": 0, "漢": 1}, unk_token="[UNK]"))
    words.decoder = decoders.WordPiece()
    with pytest.raises(
        ValueError, match="tokenizer: got one with the decoder WordPiece, allowed: Byte"
    ):
        token_texts(words)
    words.decoder = decoders.ByteLevel()
    with pytest.raises(ValueError, match="tokenizer: got the token '漢', allowed: byte-level ones"):
        token_texts(words)


def test_a_models_folder_gives_its_tokenizer(copied, tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError):
        find_tokenizer(str(copied))
    small = train_tokenizer(["abc"], 257)
    small.save(str(copied / "tokenizer.json"))
    assert find_tokenizer(str(copied)).to_str() == small.to_str()
    with pytest.raises(
        ValueError, match=r"tokenizer\.json: got 257 tokens, allowed: the model's 61 or"
    ):
        load_gpt2(copied).tokenizer()
    larger = random_tensors() | {"wte.weight": np.ones((257, 12), np.float32)}
    written = write(tmp_path / "larger", larger, {"vocab_size": 257})
    small.save(str(written / "tokenizer.json"))
    assert load_gpt2(written).tokenizer().encode("ab").ids == small.encode("ab").ids
    assert hook_names(load_gpt2(written).model.config)
