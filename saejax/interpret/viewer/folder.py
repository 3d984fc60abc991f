"""The folder of a viewer: an index of the sweep and a page for each of its SAEs."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from saejax.core.checks import check_number
from saejax.core.files import write_text
from saejax.interpret.dashboard import Dashboard
from saejax.interpret.viewer.checks import check_dashboard
from saejax.interpret.viewer.encoding import Study, blocks
from saejax.interpret.viewer.index import Entry, entry, index_page
from saejax.interpret.viewer.page import sae_page


def write_viewer(
    folder: str | Path,
    dashboards: Iterable[Dashboard],
    *,
    title: str,
    dead_threshold: float,
    note: str = "",
    run: str | None = None,
) -> Path:
    """Writes `index.html` and one self-contained page for each SAE, `<name>.html`.

    The folder appears when all of it is written: until then its files are in a hidden folder beside
    it, which is removed when anything fails.

    Args:
        folder: where to; must be absent or empty.
        dashboards: of the SAEs of a sweep. They are asked for one by one, and none is kept.
        title: heading of the index.
        dead_threshold: what a dead latent is never above, as the pages say it.
        note: a sentence or two on the study, shown on every page.
        run: what readers' notes on latents are kept under in their browser; default: the title. A
            viewer that is made again under the same name shows the notes of the earlier one.

    Returns:
        Path of the index.

    Raises:
        FileExistsError: when something is in the way; nothing is touched then.
        ValueError: `name: got X, allowed: Y` for a dashboard that contradicts itself, a name that
            is no file name or stands twice, an SAE that others link to and that has no page, no SAE
            at all.
    """
    path = Path(folder)
    _check_free(path)
    threshold = check_number("dead_threshold", dead_threshold, "0 or more", lambda v: v >= 0)
    study = Study(title, note, title if run is None else run, threshold)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        entries = _write_pages(part, dashboards, study)
        write_text(part / "index.html", index_page(entries, study))
        if path.exists():
            # Fails where something has come into it meanwhile.
            path.rmdir()
        part.rename(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return path / "index.html"


def _check_free(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "holds other files" if path.is_dir() else "is a file"
        raise FileExistsError(
            f"folder: got {str(path)!r}, which {what} already; allowed: a folder that is new "
            "or empty (nothing is ever overwritten)"
        )


def _write_pages(folder: Path, dashboards: Iterable[Dashboard], study: Study) -> list[Entry]:
    entries: list[Entry] = []
    # Names that differ in case alone are one file on some systems.
    written: dict[str, str] = {}
    # The largest latent of each SAE that a page links to, and whose page that is.
    linked: dict[str, tuple[int, str]] = {}
    for board in dashboards:
        check_dashboard(board)
        if board.name.lower() in written:
            raise ValueError(
                f"name: got {board.name!r} and {written[board.name.lower()]!r}, allowed: names "
                "that differ in more than case"
            )
        written[board.name.lower()] = board.name
        for other in board.elsewhere:
            link = int(other.latents.max()), board.name
            linked[other.name] = max(link, linked.get(other.name, link))
        write_text(folder / f"{board.name}.html", sae_page(board.name, blocks(board, study), study))
        entries.append(entry(board))
        # Else it would stay while the next one is made.
        del board
    if not entries:
        raise ValueError("dashboards: got none, allowed: one or more")
    sizes = {e.name: e.latents for e in entries}
    for name, (latent, by) in linked.items():
        if latent >= sizes.get(name, 0):
            raise ValueError(
                f"elsewhere of {by}: got latent {latent} of {name}, allowed: "
                f"{_sizes_in_words(sizes)}"
            )
    return entries


def _sizes_in_words(sizes: dict[str, int]) -> str:
    return ", ".join(f"0 to {n - 1} of {name}" for name, n in sizes.items())
