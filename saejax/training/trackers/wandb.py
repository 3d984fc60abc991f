"""A sweep in Weights & Biases: one run, with a curve for every metric and cell."""

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saejax.results.result import Result
from saejax.results.workdir import Coords
from saejax.training.trackers.interface import curves, fingerprint, heat_maps

# Seconds that the server has to answer at the start, and to take what is left at the end.
START, END = 30, 30


class WandB:
    """Logs a sweep as one run of Weights & Biases.

    Curves are called METRIC/CELL, so that a metric is a section of the page. W&B advises fewer than
    10,000 curves a run: of larger sweeps TensorBoard shows more. The run's id on the server follows
    from what it does, and one that goes on is found again by it. Without the network a run that
    goes on is written anew as a whole, in place of its earlier part, because `wandb sync` of a
    second part would replace the first.

    Args:
        project: that gets the run.
        mode: "online" or "offline"; None: as the environment (WANDB_MODE) or `wandb offline` say.
            What was written offline is uploaded by `wandb sync`.
        name: shown on the page; None: W&B makes one up.
        dir: folder that gets the folder `wandb`.

    Raises:
        ImportError: where wandb is not installed.
        ValueError: for another mode, and when W&B is to be used online by nobody who is logged in.
    """

    def __init__(
        self,
        project: str = "saejax",
        mode: str | None = None,
        name: str | None = None,
        dir: str | Path = ".",
    ) -> None:
        if mode not in (None, "online", "offline"):
            raise ValueError(f"mode: got {mode!r}, allowed: None, 'online', 'offline'")
        self.project, self.name, self.dir = project, name, Path(dir)
        self._wandb = _installed()
        self.mode = mode or self._wandb.setup().settings.mode
        if self.mode == "online" and not self._wandb.login(prompt=False, verify=False):
            raise ValueError(
                "wandb: got nobody who is logged in, allowed: after `wandb login`, or offline "
                "(WANDB_MODE=offline)"
            )
        self._config: dict[str, Any] = {}
        self._run: Any = None
        self._finished = False

    def start(self, run: Mapping[str, Any], coords: Coords, d_sae: tuple[int, ...]) -> None:
        """Keeps what is known of the run, for its page."""
        self._config, self._run, self._finished = dict(run), None, False

    def evaluation(
        self, step: int, coords: Coords, d_sae: tuple[int, ...], measured: Mapping[str, np.ndarray]
    ) -> None:
        """Logs the numbers of every cell, but for steps that the server has."""
        if self._run is None:
            self._run = self._open()
        if step < self._run.starting_step:
            return
        rows = {
            f"{metric}/{cell}": value
            for cell, values in curves(coords, measured)
            for metric, value in values.items()
        }
        self._run.log(rows, step=step)

    def finish(self, result: Result) -> None:
        """Logs the heat maps."""
        pictures = {}
        for name, caption, png in heat_maps(result):
            pictures[name] = self._wandb.Image(Image.open(io.BytesIO(png)), caption=caption)
        self._run.log(pictures, step=int(result.steps[-1]))
        self._finished = True

    def close(self) -> None:
        """Waits for the upload, half a minute at most; a run that was interrupted counts as
        failed."""
        if self._run is not None:
            self._run.finish(exit_code=0 if self._finished else 1)

    def _open(self) -> Any:
        folder = self.dir / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        own = fingerprint(self._config)
        for earlier in folder.glob(f"offline-run-*-{own}"):
            shutil.rmtree(earlier)
        return self._wandb.init(
            project=self.project,
            name=self.name,
            dir=str(self.dir),
            id=own,
            resume="allow",
            mode=self.mode,
            config=self._config,
            # The run of a notebook's own stays what it is.
            reinit="create_new",
            # Not quiet, it would print a line for every curve in the end.
            settings=self._wandb.Settings(
                console="off", quiet=True, init_timeout=START, finish_timeout=END
            ),
        )


def _installed() -> Any:
    try:
        import wandb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            'trackers: wandb needs a package: pip install "saejax[trackers]"'
        ) from error
    return wandb
