"""Stores of activations made up for tests."""

import os

import numpy as np

from saejax.data.store import durable
from saejax.data.store.manifest import StoreConfig
from saejax.data.store.writer import StoreWriter


def config(**changes):
    return StoreConfig(
        **{"model": {"seed": 1}, "hook": "mlp.2", "d": 2, "rows_per_shard": 3} | changes
    )


def data(n, d=2):
    """Rows that tell their number, and sequences of five tokens."""
    x = np.arange(n * d, dtype=np.float32).reshape(n, d)
    return x, np.arange(n) + 100, np.arange(n) % 5


def harvest(path, n=8, at_once=2, own=None, finish=True):
    """Writes a store, or goes on with one that was interrupted."""
    own = own or config()
    arrays = data(n, own.d) if own.has_tokens else data(n, own.d)[:1]
    with StoreWriter(path, own) as writer:
        for start in range(writer.rows_stored, n, at_once):
            writer.append(*(a[start : start + at_once] for a in arrays))
        if finish:
            writer.finish()
    return path


def files(path):
    return {
        p.relative_to(path).as_posix(): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


class Killed(BaseException):
    """The process is gone: nothing that it would still do happens."""


class Machine:
    """A disk on which a number of operations and of bytes succeed; then `fault` for each that
    follows.

    A write that is cut off leaves the bytes before the cut.
    """

    def __init__(self, operations, n_bytes, fault, once=False):
        self.operations, self.bytes, self.fault, self.once = operations, n_bytes, fault, once
        self.log = []

    def spend(self):
        if self.operations == 0:
            self.operations = -1
            if self.once:
                self.operations = 10**9
            raise self.fault()
        self.operations -= self.operations > 0
        if self.operations < 0:
            raise self.fault()

    def wrap(self, name, function):
        def call(*args, **kwargs):
            self.spend()
            self.log.append((name, str(args[0])))
            return function(*args, **kwargs)

        return call

    def open(self, *args, **kwargs):
        file = open(*args, **kwargs)  # noqa: SIM115
        if args[1] == "wb":
            file = Cut(file, self)
        return file

    def install(self, patch):
        for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, self.wrap(name, getattr(os, name)))
        patch.setattr(durable, "open", self.open, raising=False)


class Cut:
    """A file of a machine."""

    def __init__(self, file, machine):
        self.file, self.machine = file, machine

    def write(self, part):
        take = min(len(part), self.machine.bytes)
        self.machine.bytes -= take
        self.file.write(bytes(part)[:take])
        if take < len(part):
            self.machine.operations = 10**9 if self.machine.once else 0
            self.machine.bytes = 10**9 if self.machine.once else 0
            raise self.machine.fault()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
