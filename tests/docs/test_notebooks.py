"""Every notebook runs from top to bottom, at tiny size, in a kernel of its own."""

import os
import re
import sys

import pytest
from helpers.commands import ROOT

nbformat = pytest.importorskip("nbformat", reason="needs nbformat (the extra [notebooks])")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient (the extra [notebooks])")
pytest.importorskip("ipykernel", reason="needs ipykernel (the extra [notebooks])")

FOLDER = ROOT / "experiments" / "notebooks"
# What stands in for a notebook's cell of parameters.
TINY = {
    "tour": "STEPS = 20\nSEEDS = [0, 1]\nARCHITECTURES = ['relu', 'topk']",
    "grid": "FULL = False\nSTEPS = 20\nFOLDER = 'grid'",
    "activations": "FILES = []\nNAME = 'made-up'\nSTEPS = 20\nFOLDER = 'activations'",
    "explore": "WORKDIR = ''\nSTEPS = 20",
}
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def tagged(notebook, tag):
    """The one cell with a tag."""
    (cell,) = (c for c in notebook.cells if tag in c.metadata.get("tags", ()))
    return cell


def test_there_is_a_notebook_for_each_promise():
    assert sorted(TINY) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run_at_tiny_size(name, tmp_path):
    notebook = read(name)
    tagged(notebook, "parameters").source = TINY[name]
    environment = {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".pytest_cache" / "compiled"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    try:
        # This very Python, whatever kernels are registered on the machine.
        manager = nbclient.client.KernelManager(kernel_name="python3")
        manager.kernel_spec.argv[0] = sys.executable
        client = nbclient.NotebookClient(
            notebook, timeout=300, km=manager, resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
    shown = [o for c in notebook.cells for o in c.get("outputs", ())]
    assert any("image/png" in o.get("data", {}) for o in shown)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_committed_with_their_outputs_and_pictures(name):
    notebook = read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "install" in code[0].metadata.get("tags", ())
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [o for cell in code for o in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    text = "".join(str(o) for o in outputs)
    # Nobody else's folders or warnings are in them.
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
    assert "Warning" not in text
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 1_500_000
