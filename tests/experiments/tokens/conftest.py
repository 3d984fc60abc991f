"""Parsing the flags of the tokens study."""

import pytest
from helpers import commands

from saejax.experiments.tokens import __main__ as tokens


@pytest.fixture
def parse():
    with commands.parsing(tokens) as parse_afresh:
        yield parse_afresh
