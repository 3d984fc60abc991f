"""What the tests of text and language models share."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.gpt2_files import random_tensors, write
from helpers.texts import TEXTS
from helpers.tiny_lm import CONFIG

from saejax.lm import steps
from saejax.lm.corpus import Corpus
from saejax.lm.model import init_gpt
from saejax.lm.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("gpt2") / "model", random_tensors())


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@pytest.fixture(scope="module")
def pieces():
    """The training loss is made of two windows at a time, so that there are several pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "LOSS_ROWS", 24)
        yield


@pytest.fixture(scope="module")
def model():
    """Weights of the size that training ends with, biases and gains included."""
    fresh = init_gpt(CONFIG, jax.random.key(0))
    leaves, tree = jax.tree.flatten(fresh)
    rng = np.random.default_rng(0)
    moved = [leaf + jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32) for leaf in leaves]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(1).integers(0, 64, (3, 12)), jnp.uint16)


@pytest.fixture(scope="module")
def windows():
    return jnp.asarray(np.random.default_rng(2).integers(0, 64, (6, 13)), jnp.uint16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A Markov chain: each token has three successors, so that there is something to learn."""
    rng = np.random.default_rng(4)
    successors, chain = rng.integers(0, 64, (64, 3)), [0]
    for choice in rng.integers(0, 3, 1200):
        chain.append(successors[chain[-1], choice])
    ids = np.array(chain, np.uint16)
    return Corpus(
        folder=tmp_path_factory.mktemp("corpus"),
        manifest={"vocab_size": 64, "source": {"type": "chain"}, "files": {"x": {"sha256": "1"}}},
        train=ids[:1000],
        validation=ids[1000:],
        train_documents=np.array([0, 30, 31, 500, 1000]),
        validation_documents=np.array([0, 201]),
    )
