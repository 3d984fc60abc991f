"""Figures and page of a finished or interrupted run: `python -m saejax.report WORKDIR`.

Reads the workdir alone, so it can be made again at any time without training.
"""

from pathlib import Path

from saejax.report import baselines, bimodality, gpt2, sweep, tokens, toy3d
from saejax.runlog import read_run

# The page of each study; any other sweep has the plain one.
PAGES = {
    "baselines": baselines.build,
    "bimodality": bimodality.build,
    "gpt2": gpt2.build,
    "grid": sweep.build,
    "toy3d": toy3d.build,
    "tokens": tokens.build,
}


def write(workdir: str | Path) -> Path:
    """Draws every figure of a workdir and writes its report.html; returns the page's path.

    Raises:
        FileNotFoundError: when the folder holds no run.
        ValueError: when the run ended before there was anything to show.
    """
    path = Path(workdir)
    name = read_run(path).get("study", {}).get("name")
    return PAGES.get(name, sweep.build)(path)
