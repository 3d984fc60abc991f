"""What the tests of a store share."""

import pytest
from helpers.stores import files, harvest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """For the examples of one test, which all share its `tmp_path`."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def path(tmp_path):
    """A finished store of eight rows in shards of three."""
    return harvest(tmp_path / "store")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return files(harvest(tmp_path_factory.mktemp("whole")))
