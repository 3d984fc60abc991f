"""SAEs for other libraries: formats, model cards, the hub."""

from saejax.export.command import Export, export

__all__ = ["Export", "export"]
