"""The floors of the house: who may import whom, and what compiled code may touch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "saejax"
# From the ground up; a room imports from lower floors and from itself.
FLOORS = (
    {"core"},
    {"sae", "data"},
    {"metrics", "lm"},
    {"results"},
    {"training", "analysis", "export", "report"},
    {"interpret"},
    {"experiments"},
)
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
# The roof: what the package shows, its command line, and where things were before.
ROOF = {"", "__main__", "_moved"}
TRACED = {
    *("core.checks", "core.devices", "core.fingerprint", "core.keys", "core.linalg"),
    *("core.precision", "core.program_hash"),
    *("metrics.firing", "metrics.measures", "metrics.turnover"),
    *("training.batches", "training.cells", "training.chunk", "training.evaluate"),
    *("training.map_cells", "training.settings", "training.step", "training.sweep"),
    *("analysis.token_groups", "data.host", "data.source"),
}
TRACED_ROOMS = ("sae.", "data.synthetic.")
NOT_TRACEABLE = {"os", "pathlib", "json", "time", "logging", "matplotlib", "tqdm", "absl"}
# Arrays in, arrays and tables out.
NO_FILES = {"metrics", "analysis", "results.plots", "training.trackers.events"}
# Peers that the benchmark times beside saejax, and a format that is a pickle of tensors.
TORCH = {
    f"experiments.benchmark.{n}" for n in ("recipe", "torch_loop", "torch_ensemble", "saelens")
}
TORCH |= {"export.dictionary_learning"}
HEAVY = ("matplotlib", "scipy", "orbax", "torch", "flax", "sklearn")
FILES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").strip("."): p
    for p in sorted(ROOT.rglob("*.py"))
}


def statements(tree):
    """Every import statement of a module, also inside functions; not those for type checkers."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    return [node for node in found if id(node) not in skipped]


def found(text, package="saejax"):
    """Absolute dotted names of everything that a module's text imports."""
    names = set()
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def imports(module):
    own = FILES[module].name == "__init__.py"
    package = ".".join(["saejax", *module.split(".")[: None if own else -1]]).rstrip(".")
    return found(FILES[module].read_text(encoding="utf-8"), package)


def inner(module):
    """The modules of saejax that a module imports."""
    names = {name.removeprefix("saejax").strip(".") for name in imports(module) if is_ours(name)}
    return {name if name in FILES else name.rpartition(".")[0] for name in names}


def is_ours(name):
    return name == "saejax" or name.startswith("saejax.")


def outer(module):
    return {name.split(".")[0] for name in imports(module)}


def room(module):
    return module.split(".")[0]


def inside(rooms):
    return sorted(m for m in FILES if any(m == r or m.startswith(f"{r}.") for r in rooms))


def uses_numpy_random(text):
    return any(name.startswith("numpy.random") for name in found(text)) or any(
        isinstance(node, ast.Attribute)
        and node.attr == "random"
        and isinstance(node.value, ast.Name)
        and node.value.id in {"numpy", "np"}
        for node in ast.walk(ast.parse(text))
    )


def circle(graph):
    """Modules that import one another in a ring; None where there is none."""
    state, path = {}, []

    def visit(module):
        state[module] = "open"
        path.append(module)
        for other in sorted(graph[module]):
            if state.get(other) == "open":
                return [*path[path.index(other) :], other]
            if other not in state and (ring := visit(other)):
                return ring
        state[module] = "done"
        path.pop()
        return None

    return next((ring for m in graph if m not in state and (ring := visit(m))), None)


def test_the_reader_sees_every_way_to_import():
    text = "import os.path as p\nfrom json import dumps\ndef f():\n  from . import a\n  import time"
    assert found(text) == {"os.path", "json.dumps", "saejax.a", "time"}
    assert found("from ..train import train", "saejax.data") == {"saejax.train.train"}
    assert found("if TYPE_CHECKING:\n  import a\nelse:\n  import b") == set()
    assert uses_numpy_random("import numpy as np\nx = np.random.rand()")
    assert uses_numpy_random("from numpy.random import default_rng")
    assert not uses_numpy_random("import jax\nx = jax.random.normal")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def test_every_module_is_in_a_room():
    assert {room(m) for m in FILES} == set(FLOOR) | ROOF
    assert set(FILES) >= TRACED | TORCH | NO_FILES


@pytest.mark.parametrize("name", sorted(FLOOR))
def test_a_room_imports_from_lower_floors_only(name):
    rooms = {other for m in inside([name]) for other in map(room, inner(m)) if other != name}
    assert {other for other in rooms if FLOOR.get(other, 99) >= FLOOR[name]} == set()


def test_no_modules_import_one_another():
    # A module inside a package loads the package first, which may import the module in turn.
    graph = {m: {o for o in inner(m) if not m.startswith(f"{o}.")} for m in FILES}
    assert circle(graph) is None


@pytest.mark.parametrize(
    "module", sorted(m for m in FILES if m in TRACED or m.startswith(TRACED_ROOMS))
)
def test_traced_modules_touch_nothing_outside_the_program(module):
    assert not outer(module) & NOT_TRACEABLE
    assert not uses_numpy_random(FILES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", inside(NO_FILES))
def test_what_measures_and_draws_knows_no_paths(module):
    # A figure draws itself into memory where a notebook asks for it.
    shown = {"io"} if module == "results.plots.figure" else set()
    assert not outer(module) & {"os", "pathlib", "io", "shutil"} - shown
    assert "core.files" not in inner(module)


@pytest.mark.parametrize("module", inside(["results.plots"]))
def test_plots_know_nothing_of_a_run(module):
    allowed = ("results.plots", "core", "metrics.catalogue")
    assert {m for m in inner(module) if not m.startswith(allowed)} == set()


@pytest.mark.parametrize("module", inside(["interpret"]))
def test_only_the_endpoint_speaks_to_a_server(module):
    if module != "interpret.endpoint":
        assert not outer(module) & {"http", "urllib", "socket", "httpx"}


@pytest.mark.parametrize("module", sorted(FILES))
def test_heavy_libraries_are_the_business_of_few(module):
    if room(module) not in {"experiments", *ROOF}:
        assert "absl" not in outer(module)
    if module != "core.checkpoints":
        assert "orbax" not in outer(module)
    if module not in TORCH:
        assert not outer(module) & {"torch", "sae_lens"}
    if FLOOR.get(room(module), 0) < FLOOR["results"]:
        assert "matplotlib" not in outer(module)


def loaded(code):
    """Which of the heavy libraries are loaded after some code has run in a new process."""
    code = f"import sys\n{code}\nprint(*(n for n in {HEAVY!r} if n in sys.modules))"
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT.parent, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_saejax_loads_nothing_heavy():
    assert loaded("import saejax") == set()


def test_no_room_below_the_results_loads_matplotlib():
    below = [m for m in FILES if FLOOR.get(room(m), 99) < FLOOR["results"]]
    assert "matplotlib" not in loaded("\n".join(f"import saejax.{m}" for m in below))


@pytest.mark.parametrize("folder", ["saejax", "tests"])
def test_no_file_is_longer_than_400_lines(folder):
    texts = {p: p.read_text(encoding="utf-8") for p in (ROOT.parent / folder).rglob("*.py")}
    assert [p.name for p, text in texts.items() if text.count("\n") > 400] == []
    skip = "# fmt: " + "skip"
    assert [p.name for p, text in texts.items() if skip in text] == []
