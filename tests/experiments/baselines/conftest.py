"""Parsing the flags of the baselines study."""

import pytest
from helpers import commands

from saejax.experiments.baselines import __main__ as baselines


@pytest.fixture
def parse():
    with commands.parsing(baselines) as parse_afresh:
        yield parse_afresh
