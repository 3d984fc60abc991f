"""The feature viewer: a folder of self-contained pages, one for each SAE of a sweep.

A page needs no network and no other file. What came from a corpus or a vocabulary is never part of
its markup: it is carried as base64 of compressed data, and shown as text alone.
"""

from saejax.interpret.viewer.folder import write_viewer

__all__ = ["write_viewer"]
