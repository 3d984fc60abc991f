"""The folder of a viewer: an index of the sweep and a page for each of its SAEs."""

from collections.abc import Iterable
from pathlib import Path

from saejax.core.checks import check_number
from saejax.core.files import new_folder, write_text
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
        run: readers' notes on latents are kept under this name in their browser; default: the
            title. A viewer made again under the same name shows the notes of the earlier one.

    Returns:
        Path of the index.

    Raises:
        FileExistsError: when something is in the way; nothing is touched then.
        ValueError: `name: got X, allowed: Y` for a dashboard that contradicts itself, a name that
            is no file name or stands twice, an SAE that others link to and that has no page, no SAE
            at all.
    """
    path = Path(folder)
    threshold = check_number("dead_threshold", dead_threshold, "0 or more", lambda v: v >= 0)
    study = Study(title, note, title if run is None else run, threshold)
    with new_folder(path) as part:
        entries = _write_pages(part, dashboards, study)
        write_text(part / "index.html", index_page(entries, study))
    return path / "index.html"


def _write_pages(folder: Path, dashboards: Iterable[Dashboard], study: Study) -> list[Entry]:
    entries: list[Entry] = []
    # Names that differ in case alone are one file on some systems.
    written: dict[str, str] = {}
    # The largest latent of each SAE that a page links to, and whose page that is.
    linked: dict[str, tuple[int, str]] = {}
    for board in dashboards:
        check_dashboard(board)
        if twin := written.get(board.name.lower()):
            raise ValueError(
                f"name: got {board.name!r} and {twin!r}, allowed: names that differ in more than "
                "case"
            )
        written[board.name.lower()] = board.name
        for other in board.elsewhere:
            link = int(other.latents.max()), board.name
            linked[other.name] = max(link, linked.get(other.name, link))
        write_text(folder / f"{board.name}.html", sae_page(board.name, blocks(board, study), study))
        entries.append(entry(board))
        # Else it would stay in memory while the next one is made.
        del board
    if not entries:
        raise ValueError("dashboards: got none, allowed: one or more")
    sizes = {e.name: e.latents for e in entries}
    for name, (latent, by) in linked.items():
        if latent >= sizes.get(name, 0):
            allowed = ", ".join(f"0 to {n - 1} of {sae}" for sae, n in sizes.items())
            raise ValueError(
                f"elsewhere of {by}: got latent {latent} of {name}, allowed: {allowed}"
            )
    return entries
