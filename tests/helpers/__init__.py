"""What several tests share."""

from helpers import typechecker as typechecker  # the import hook of conftest.py looks it up here
