"""Packages that few tests need are imported when one runs, not while tests are collected."""

import os

import pytest


class Late:
    """A package at its first use; where it is not installed, the test that uses it is skipped."""

    def __init__(self, name, reason):
        self.name, self.reason = name, reason

    def __getattr__(self, attribute):
        # pytest looks at everything in a file to find what is a test.
        if "PYTEST_CURRENT_TEST" not in os.environ:
            raise AttributeError(attribute)
        return getattr(pytest.importorskip(self.name, reason=self.reason), attribute)
