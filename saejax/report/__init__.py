"""Figures and page of a finished or interrupted run: `python -m saejax.report WORKDIR`.

Reads the workdir alone, so it can be made again at any time without training.
"""

from pathlib import Path

from matplotlib.figure import Figure

from saejax.report import baselines, bimodality, gpt2, sweep, synthbench, tokens, toy3d
from saejax.report.page import Page
from saejax.runlog import read_run

# The page of each study; any other sweep has the plain one.
PAGES = {
    "baselines": baselines.build,
    "bimodality": bimodality.build,
    "gpt2": gpt2.build,
    "grid": sweep.build,
    "synthbench": synthbench.build,
    "toy3d": toy3d.build,
    "tokens": tokens.build,
}


def write(workdir: str | Path) -> Path:
    """Draws every figure of a workdir and writes its report.html; returns the page's path.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before there was anything to show.
    """
    return _page(workdir).write()


def figures(workdir: str | Path) -> dict[str, Figure]:
    """Every picture of a workdir's page by name, as the report has them; no file is written.

        from saejax import report
        pictures = report.figures("runs/grid-quick")
        pictures["heatmap_mse"]                            # a notebook shows it
        pictures["frontier"].savefig("frontier.pdf")

    Args:
        workdir: of any study, or of a run from Python.

    Raises:
        FileNotFoundError, ValueError: as `write`.
    """
    return _page(workdir).figures


def films(workdir: str | Path) -> dict[str, bytes]:
    """Every animation of a workdir's page by name, as the bytes of a GIF; no file is written.

    Only runs of the toy study that have ended have any.

        from IPython.display import Image
        from saejax import report
        Image(report.films("runs/toy3d")["film_ratio-4_l1-0.1"])

    Args:
        workdir: as of `figures`.

    Raises:
        FileNotFoundError, ValueError: as `write`.
    """
    return _page(workdir).films()


def _page(workdir: str | Path) -> Page:
    path = Path(workdir)
    name = read_run(path).get("study", {}).get("name")
    return PAGES.get(name, sweep.build)(path)
