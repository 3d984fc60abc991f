"""Studies that work in stages: what each stage did, and a workdir in which a run goes on."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from absl import flags

from saejax.core.files import held, write_text
from saejax.experiments.common import command
from saejax.results import workdir


class Stages:
    """What each stage of a study did: printed as it ends, kept for `run.json`."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    @contextmanager
    def stage(self, name: str, path: Path, reused: bool) -> Iterator[list[str]]:
        """Times a stage and says what it made or skipped; takes remarks to print with it."""
        started, remarks = time.perf_counter(), []
        yield remarks
        seconds = time.perf_counter() - started
        self.rows.append({"stage": name, "reused": reused, "seconds": seconds})
        done = "skipped, reused" if reused else f"done in {seconds:.0f} s,"
        print(f"{name}: {done} {path}{''.join(f'; {text}' for text in remarks)}", flush=True)


def continued_workdir(
    own: flags.FlagValues, study: str, may_change: Sequence[str], until_end: ExitStack
) -> Path:
    """The workdir of a study: new, empty, or left by an interrupted run of the same flags.

    Args:
        own: the study's flags.
        study: its name.
        may_change: flags that may differ from the interrupted run's, as where stages lie.
        until_end: holds the folder's lock.

    Raises:
        FileExistsError: for a finished run, and a folder of anything else.
        BlockingIOError: for a folder that another process is using.
        ValueError: naming each flag that differs from the interrupted run's.
    """
    path, text = Path(str(own["workdir"].value)), command.flagfile(own)
    was_there = path.exists()
    if not (path / "run.json").exists():
        workdir.new_workdir(path)
    until_end.enter_context(held(path))
    if not ((path / "run.json").exists() and (path / "config.flags").exists()):
        try:
            write_text(path / "config.flags", text)
            workdir.write_run(path, {"study": {"name": study}}, finished=False)
        except BaseException:
            workdir.discard(path, "config.flags", was_there)
            raise
        return path
    run = workdir.read_run(path)
    if run["finished"] or run.get("study", {}).get("name") != study:
        raise FileExistsError(
            f"workdir: got {str(path)!r}, which holds a run already; allowed: a folder that is "
            f"new or empty, or an interrupted run of {study} (nothing is ever overwritten)"
        )
    before = (path / "config.flags").read_text(encoding="utf-8")
    different = workdir.other_flags(text, before, may_change)
    if different:
        raise ValueError(
            f"workdir: got {str(path)!r}, where a run with other flags was interrupted: "
            + "; ".join(different)
        )
    write_text(path / "config.flags", text)
    return path
