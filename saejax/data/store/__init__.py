"""Stores of activations on disk, of any size."""

from saejax.data.store.imports import import_arrays
from saejax.data.store.manifest import StoreConfig
from saejax.data.store.reader import Store
from saejax.data.store.source import StoreSource
from saejax.data.store.writer import StoreWriter

__all__ = ["Store", "StoreConfig", "StoreSource", "StoreWriter", "import_arrays"]
