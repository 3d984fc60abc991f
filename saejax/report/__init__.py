"""Figures and page of a finished or interrupted run: `python -m saejax.report WORKDIR`.

Reads the workdir alone, so it can be made again at any time without training.
"""

import importlib
from importlib import resources
from pathlib import Path

from matplotlib.figure import Figure

from saejax.report.page import Page
from saejax.results.workdir import read_run


def write(workdir: str | Path) -> Path:
    """Draws every figure of a workdir and writes its report.html; returns the page's path.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before there was anything to show.
    """
    return _page(workdir).write()


def figures(workdir: str | Path) -> dict[str, Figure]:
    """Every picture of a workdir's page by name; no file is written, errors are those of `write`.

        from saejax import report
        pictures = report.figures("runs/grid-quick")
        pictures["heatmap_mse"]                            # a notebook shows it
        pictures["frontier"].savefig("frontier.pdf")

    The workdir may be of any study, or of a run from Python.
    """
    return _page(workdir).figures


def films(workdir: str | Path) -> dict[str, bytes]:
    """Every animation of a workdir's page by name, as the bytes of a GIF; else as `figures`.

    Only runs of the toy study that have ended have any.

        from IPython.display import Image
        from saejax import report
        Image(report.films("runs/toy3d")["film_ratio-4_l1-0.1"])
    """
    return _page(workdir).films()


def _page(workdir: str | Path) -> Page:
    """The page of a workdir, as its study builds it.

    The page of a study is `saejax.experiments.NAME.page`, found by the name in run.json: studies
    are above this room, and adding one changes nothing here. A sweep of no study has the grid's.
    """
    path = Path(workdir)
    name = str(read_run(path).get("study", {}).get("name"))
    module = resources.files("saejax").joinpath("experiments", name, "page.py")
    study = name if name.isidentifier() and module.is_file() else "grid"
    return importlib.import_module(f"saejax.experiments.{study}.page").build(path)
