"""Parsing the flags of the toy3d study."""

import pytest
from helpers import commands

from saejax.experiments.toy3d import __main__ as toy3d


@pytest.fixture
def parse():
    with commands.parsing(toy3d) as parse_afresh:
        yield parse_afresh
