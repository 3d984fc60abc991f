"""The rings of the house: what is compiled knows nothing of files, clocks, logs or the host's dice."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "saejax"
TRACED = {
    "checks", "mapping", "precision", "sae", "settings", "resample", "ghost", "separation", "sweep",
    "step", "chunk", "metrics", "detection", "tracking", "data", "data.synthetic", "data.firing",
    "data.hierarchy", "data.magnitudes", "data.orthogonal", "data.synthsaebench", "data.fed",
    "devices", "fingerprint", "identity", "architectures", "architectures.base",
    "architectures.gated", "architectures.jumprelu", "architectures.matryoshka",
    "architectures.topk",
}  # fmt: skip
DOOR = "data.source"
HOST_PURE = (
    "result", "table", "plots", "published", "baselines", "embedding", "recovery", "claims",
    "matching", "bimodality", "memory", "dictionary", "card", "merging", "pictures",
)  # fmt: skip
DOES_IO = (
    "train", "runlog", "workdir", "keeper", "report", "experiments", "checkpoint", "viewer",
    "benchmark", "formats", "export", "hub", "trackers",
)  # fmt: skip
# Peers that the benchmark times beside saejax.
PEERS = {"benchmark.recipe", "benchmark.torch_loop", "benchmark.torch_ensemble", "benchmark.saelens"}
# Whose files are pickles of tensors, so that only torch reads and writes them.
TENSOR_FILES = {"formats.dictionary_learning"}
# Of `interpret`: what asks another model or writes, and what reads a store.
INTERPRET_IO = {"interpret.chat", "interpret.endpoint", "interpret.answers", "interpret.study"}
INTERPRET_READS = {"interpret.activity", "interpret.measurement"}
NOT_TRACEABLE = {"os", "pathlib", "json", "time", "logging", "matplotlib", "tqdm", "absl"}
FILES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
    for p in ROOT.rglob("*.py")
}


def found(text, package="saejax"):
    """Absolute dotted names of everything a module's text imports, wherever it does so."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def imports(module):
    package = ".".join(["saejax", *module.split(".")[:-1]])
    return found(FILES[module].read_text(encoding="utf-8"), package)


def own(module):
    """The modules of saejax that a module imports."""
    inner = {name.removeprefix("saejax.") for name in imports(module) if name.startswith("saejax.")}
    return {name if name in FILES else name.rpartition(".")[0] or "__init__" for name in inner}


def uses_numpy_random(text):
    aliases = {"numpy", "np"}
    return any(name.startswith("numpy.random") for name in found(text)) or any(
        isinstance(node, ast.Attribute)
        and node.attr == "random"
        and isinstance(node.value, ast.Name)
        and node.value.id in aliases
        for node in ast.walk(ast.parse(text))
    )


def test_the_reader_sees_every_way_to_import():
    text = (
        "import os.path as p\nfrom json import dumps\ndef f():\n  from . import runlog\n  import time"
    )
    assert found(text) == {"os.path", "json.dumps", "saejax.runlog", "time"}
    assert found("from ..train import train", "saejax.data") == {"saejax.train.train"}
    assert uses_numpy_random("import numpy as np\nx = np.random.rand()")
    assert uses_numpy_random("from numpy.random import default_rng")
    assert not uses_numpy_random("import jax\nx = jax.random.normal")


def test_all_modules_of_the_rings_are_there():
    assert {*TRACED, DOOR, *HOST_PURE, *DOES_IO} <= set(FILES)
    assert set(FILES) >= INTERPRET_IO | INTERPRET_READS | PEERS | TENSOR_FILES


@pytest.mark.parametrize("module", sorted(TRACED))
def test_traced_modules_touch_nothing_outside_the_program(module):
    outside = {name.split(".")[0] for name in imports(module)}
    assert not outside & NOT_TRACEABLE
    assert not uses_numpy_random(FILES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", sorted(TRACED))
def test_traced_modules_import_traced_modules_only(module):
    assert own(module) <= TRACED | {DOOR}


@pytest.mark.parametrize("module", sorted(m for m in FILES if m.split(".")[0] in HOST_PURE))
def test_host_modules_import_nothing_that_writes(module):
    assert not {name for name in own(module) if name.split(".")[0] in DOES_IO}


@pytest.mark.parametrize(
    "module", sorted(m for m in FILES if m.startswith("interpret.") and m not in INTERPRET_IO)
)
def test_what_looks_at_latents_imports_nothing_that_writes_or_asks(module):
    inner = own(module)
    assert not {name for name in inner if name.split(".")[0] in DOES_IO} | (inner & INTERPRET_IO)
    if module not in INTERPRET_READS:
        outside = {name.split(".")[0] for name in imports(module)}
        assert not outside & (NOT_TRACEABLE - {"json"} | {"http", "urllib", "socket"})
        assert not {name for name in inner if name.startswith("data.")}


@pytest.mark.parametrize("module", sorted(m for m in FILES if m.split(".")[0] == "plots"))
def test_plots_know_no_paths_and_nothing_of_a_run(module):
    # A figure draws itself into memory where a notebook asks for it.
    shown = {"io"} if module == "plots.figure" else set()
    assert not {name.split(".")[0] for name in imports(module)} & {"os", "pathlib", "io"} - shown
    assert {name.split(".")[0] for name in own(module)} <= {"plots"}


@pytest.mark.parametrize("module", sorted(FILES))
def test_flags_are_the_business_of_experiments_alone(module):
    outside = {name.split(".")[0] for name in imports(module)}
    inner = {name.split(".")[0] for name in own(module)}
    if not module.startswith("experiments"):
        assert "absl" not in outside
        assert "experiments" not in inner
    if module != "checkpoint":
        assert "orbax" not in outside
    if module not in PEERS | TENSOR_FILES:
        assert not outside & {"torch", "sae_lens"}


def test_importing_saejax_leaves_pyplot_alone():
    code = (
        "import sys, saejax; "
        "print(sorted({'matplotlib.pyplot', 'torch', 'orbax', 'saejax.report'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
