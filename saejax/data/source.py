"""Sources of training data: whatever a user passes to a sweep becomes one.

A source is pure: `sample` is traced into the training step and gets its arrays as arguments, split
into `shared` (one copy for all seeds) and what `setup` makes from a seed's key.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from saejax.core.program_hash import program
from saejax.core.programs import shape_of
from saejax.data.host import HostSource
from saejax.data.synthetic import recipe
from saejax.data.synthetic.hierarchy import Codes
from saejax.data.synthetic.recipe import Synthetic

Batch = Float[Array, "batch d_in"]


@runtime_checkable
class Source(Protocol):
    """What the engine asks of a data set.

    Attributes:
        d_in: width of a sample.
        n_features: number of ground-truth features, None where they are unknown.
        shared: arrays that `sample` reads and that do not depend on the seed.
    """

    @property
    def d_in(self) -> int: ...

    @property
    def n_features(self) -> int | None: ...

    @property
    def shared(self) -> Any: ...

    def setup(self, key: PRNGKeyArray) -> Any:
        """Arrays of one seed."""
        ...

    def features(self, arrays: Any) -> Float[Array, "n_features d_in"] | None:
        """Ground-truth features in what `setup` returned, None where unknown."""
        ...

    def sample(self, shared: Any, arrays: Any, key: PRNGKeyArray, batch_size: int) -> Batch:
        """A fresh batch."""
        ...

    def codes(self, shared: Any, arrays: Any, key: PRNGKeyArray, batch_size: int) -> Codes | None:
        """True feature activations in what `sample` draws with this key, None where unknown."""
        ...

    def describe(self) -> dict[str, Any]:
        """Settings to write down beside the results, JSON types only."""
        ...


AnySource = Source | HostSource
SOURCE = ("d_in", "n_features", "shared", "setup", "features", "sample", "codes", "describe")


@dataclass(frozen=True)
class SyntheticSource:
    """A `Synthetic` spec as a source."""

    spec: Synthetic
    shared: None = None

    @property
    def d_in(self) -> int:
        return self.spec.d_in

    @property
    def n_features(self) -> int:
        return self.spec.n_features

    def setup(self, key: PRNGKeyArray) -> recipe.Truth:
        return recipe.truth(self.spec, key)

    def features(self, arrays: recipe.Truth) -> Float[Array, "n_features d_in"]:
        return arrays.F

    def sample(
        self, shared: None, arrays: recipe.Truth, key: PRNGKeyArray, batch_size: int
    ) -> Batch:
        return recipe.sample(self.spec, arrays, key, batch_size)

    def codes(
        self, shared: None, arrays: recipe.Truth, key: PRNGKeyArray, batch_size: int
    ) -> Codes:
        return recipe.codes(self.spec, arrays, key, batch_size)

    def describe(self) -> dict[str, Any]:
        # Settings that are off are left out: a run is described as before there were such settings.
        settings = {name: value for name, value in asdict(self.spec).items() if value is not None}
        return {"type": "synthetic", **settings}


class _NoTruth:
    """What a source does that knows no true features and has no arrays of a seed."""

    def setup(self, key: PRNGKeyArray) -> None:
        return None

    def features(self, arrays: None) -> None:
        return None

    def codes(self, shared: Any, arrays: None, key: PRNGKeyArray, batch_size: int) -> None:
        return None


@dataclass(frozen=True)
class ArraySource(_NoTruth):
    """Rows of an array, drawn with replacement. The array is held once, whatever the seeds."""

    shared: Float[Array, "n d_in"] | jax.ShapeDtypeStruct = field(repr=False)
    n_features: None = None

    @property
    def d_in(self) -> int:
        return self.shared.shape[1]

    def sample(self, shared: Any, arrays: None, key: PRNGKeyArray, batch_size: int) -> Batch:
        return shared[jax.random.randint(key, (batch_size,), 0, shared.shape[0])]

    def describe(self) -> dict[str, Any]:
        rows = np.ascontiguousarray(self.shared)
        digest = hashlib.sha256(rows.data).hexdigest()
        return {"type": "array", "rows": rows.shape[0], "d_in": self.d_in, "sha256": digest}


@dataclass(frozen=True)
class FullBatch(ArraySource):
    """A small table that is every batch, whole and in its order, also of evaluations.

    The batch size must be the number of rows.
    """

    def sample(self, shared: Any, arrays: None, key: PRNGKeyArray, batch_size: int) -> Batch:
        return shared

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"type": "full batch"}


@dataclass(frozen=True)
class FunctionSource(_NoTruth):
    """A user's pure function from a key to a batch [batch_size, d_in]."""

    function: Callable[[PRNGKeyArray], Batch]
    d_in: int
    n_features: None = None
    shared: None = None

    def sample(self, shared: None, arrays: None, key: PRNGKeyArray, batch_size: int) -> Batch:
        return jnp.asarray(self.function(key), jnp.float32)

    def describe(self) -> dict[str, Any]:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        sha256 = program(self.function, jax.random.key(0))
        return {"type": "function", "name": name, "d_in": self.d_in, "sha256": sha256}


def traced(source: AnySource) -> tuple[Any, Source | None]:
    """What a compiled program has of a source, and a key that is equal where the programs are.

    Arrays are inputs of a program and no part of it, so that one for other rows is the same, and
    no program keeps them. Of a source that the host feeds there is nothing in it. A source of the
    user's own may compute anything next time: its key has no hash, and its program is not kept.
    """
    if isinstance(source, SyntheticSource):
        return source, source
    if isinstance(source, ArraySource) and type(source) in (ArraySource, FullBatch):
        return type(source), replace(source, shared=shape_of(source.shared))
    if isinstance(source, FunctionSource):
        return (source.function, source.describe()["sha256"]), source
    return (None, None) if isinstance(source, HostSource) else ([], source)


def as_source(data: Any, batch_size: int, name: str = "data") -> AnySource:
    """The source that a spec, an array or a function stands for.

    Args:
        data: a `Synthetic`, an array [n, d_in] of finite numbers, a function `key -> [batch_size,
            d_in]`, or a source already.
        batch_size: what a function's batches must hold.
        name: how errors name the data set.

    Raises:
        ValueError: for an array that is empty, not two-dimensional or not finite, for full batches
            of another size than batch_size, and for a function whose batch has another shape than
            [batch_size, d_in].
        TypeError: for anything else.
    """
    if isinstance(data, Synthetic):
        return SyntheticSource(data)
    if isinstance(data, FullBatch):
        if not isinstance(data.shared, np.ndarray | jax.Array):
            raise TypeError(
                f"data {name!r}: got full batches of {type(data.shared).__name__}, allowed: an "
                "array [rows, d_in]"
            )
        rows = _rows(data.shared, name)
        if rows.shape[0] != batch_size:
            raise ValueError(
                f"batch_size: got {batch_size}, allowed with full batches of {name!r}: its "
                f"{rows.shape[0]} rows"
            )
        return FullBatch(rows)
    if isinstance(data, Source | HostSource):
        return data
    if isinstance(data, np.ndarray | jax.Array):
        return ArraySource(_rows(data, name))
    if callable(getattr(data, "sample", None)):
        may_be_none = ("n_features", "shared")
        lacks = [
            name
            for name in SOURCE
            if not hasattr(data, name) or (getattr(data, name) is None and name not in may_be_none)
        ]
        raise TypeError(
            f"data {name!r}: got {type(data).__name__}, which looks like a source but lacks "
            f"{', '.join(lacks)}; allowed: all of {', '.join(SOURCE)} (saejax.data.source.Source)"
        )
    if callable(data):
        function: Callable[..., Any] = data
        out = jax.eval_shape(function, jax.random.key(0))
        shape = getattr(out, "shape", None)
        if shape is None or len(shape) != 2 or shape[0] != batch_size or not shape[1]:
            what = type(out).__name__ if shape is None else f"an array of shape {shape}"
            raise ValueError(
                f"data {name!r}: the function returns {what}, allowed: one array of shape "
                f"[batch_size={batch_size}, d_in]"
            )
        return FunctionSource(function, d_in=shape[1])
    raise TypeError(
        f"data {name!r}: got {type(data).__name__}, allowed: a Synthetic, an array [rows, d_in], a "
        "function from a key to a batch, or a dict that names several of them"
    )


def _rows(data: Any, name: str) -> Float[Array, "n d_in"]:
    if data.ndim != 2 or 0 in data.shape:
        raise ValueError(
            f"data {name!r}: got an array of shape {data.shape}, allowed: [rows, d_in], not empty"
        )
    must = f"data {name!r}: the array must hold finite numbers only"
    if not (jnp.issubdtype(data.dtype, jnp.floating) or jnp.issubdtype(data.dtype, jnp.integer)):
        raise ValueError(f"{must}, got {data.dtype}")
    rows = jnp.asarray(data, jnp.float32)
    if not bool(jnp.isfinite(rows).all()):
        raise ValueError(f"{must}, in float32")
    return rows


def as_sources(data: Any, batch_size: int) -> dict[str, AnySource]:
    """Sources by name: the entries of a dict, or one that is called after its kind or "data".

    Raises:
        ValueError: for an empty dict, and when the entries differ in d_in or n_features, because
            the cells of one width group are stacked.
    """
    if isinstance(data, Mapping):
        if not data:
            raise ValueError("data: got an empty dict, allowed: at least one data set")
        for name in data:
            if not (isinstance(name, str) and re.fullmatch(r"\w[\w.+-]*", name)):
                raise ValueError(
                    f"data: got the name {name!r}, allowed: letters, digits, _ and, inside, . + - "
                    "(file names are made from it)"
                )
        sources = {name: as_source(d, batch_size, name) for name, d in data.items()}
    else:
        name = data.kind if isinstance(data, Synthetic) else "data"
        sources = {name: as_source(data, batch_size, name)}
    for attribute in ("d_in", "n_features"):
        values = {name: getattr(s, attribute) for name, s in sources.items()}
        if len(set(values.values())) > 1:
            raise ValueError(f"data: {attribute} must be the same for all data sets, got {values}")
    return sources
