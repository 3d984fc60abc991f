"""A whole sweep as folders that other libraries open; `python -m saejax.export WORKDIR`.

An export is a folder with

    <cell>/      one SAE, see `saejax.export.formats`, named as in the workdir
    cells.csv    a row for each: its coordinates, d_sae and measurements
    README.md    the model card: what was trained, on what, results, how to load one
"""

import argparse
import filecmp
import math
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saejax.core.files import in_the_way, new_folder, write_text
from saejax.core.table import Table
from saejax.export import formats, hub
from saejax.export.card import CARD, model_card, model_name
from saejax.metrics.catalogue import METRICS
from saejax.results.axes import coordinates
from saejax.results.result import Result
from saejax.results.saving import load
from saejax.results.workdir import cell_name
from saejax.sae.registry import Matryoshka

INDEX = "cells.csv"
DESCRIPTION = "A whole sweep as folders that other libraries open."


@dataclass(frozen=True)
class Export:
    """What was written: the folder, and the rows of its cells.csv.

    `skipped` are the names of cells that were frozen as not finite; `was_there` says whether the
    folder held the same export already, and was left as it is.
    """

    folder: Path
    cells: Table
    skipped: tuple[str, ...]
    was_there: bool


def export(
    run: Result | str | Path,
    out: str | Path | None = None,
    format: str = "saelens",
    where: Mapping[str, Any] | None = None,
) -> Export:
    """Writes the SAEs of a run as folders of a format, one a cell.

    Nothing is ever overwritten. A folder that holds the very same export is left as it is,
    README.md whatever became of it; anything else in the way is an error.

    Args:
        run: a result, or the workdir of a run that has ended.
        out: the folder; None for `export-<format>` in the workdir.
        format: see `saejax.export.formats.save`.
        where: coordinates of the cells in question, as `Result.select` takes them; None for all
            cells.

    Raises:
        ValueError: naming the argument, before anything is written; and for a run all of whose
            cells in question were frozen.
        FileExistsError: when the folder holds something else.
        FileNotFoundError: when the workdir holds no run, or one that has not ended.
        ImportError: naming the package that the format needs.
    """
    formats.check_format(format)
    if out is None:
        if isinstance(run, Result):
            raise ValueError("out: got None, allowed: a folder (a result has none of its own)")
        out = Path(run) / f"export-{format}"
    result, out = run if isinstance(run, Result) else load(run), Path(out)
    there = in_the_way(out)
    chosen = result.select(**(where or {}))
    cells = [
        index
        for index in result.cells()
        if all(at in positions for at, positions in zip(index, chosen, strict=True))
    ]
    frozen = [index for index in cells if result.final["frozen_at"][index] >= 0]
    skipped = tuple(cell_name(result.coords, index) for index in frozen)
    if len(frozen) == len(cells):
        raise ValueError(
            f"where: got cells that were all frozen ({', '.join(skipped)}), allowed: others"
        )
    cells = [index for index in cells if index not in frozen]
    rows = Table(_row(result, index) for index in cells)
    compare = _check_same if (out / INDEX).is_file() else None
    with new_folder(out, compare=compare) as part:
        for index, row in zip(cells, rows, strict=True):
            coords = coordinates(result.coords, index)
            sae = result.sae(**coords)
            about = {**sae.metadata, **_about(result, coords, row)}
            formats.save(replace(sae, metadata=about), part / row["cell"], format)
        write_text(part / INDEX, rows.to_csv())
        write_text(part / CARD, model_card(result, rows, skipped, format))
    return Export(out, rows, skipped, there)


def _row(result: Result, index: tuple[int, ...]) -> dict[str, Any]:
    """A cell's row of cells.csv."""
    coords = coordinates(result.coords, index)
    measured = [name for name in METRICS if name in result.final] + result.own_metrics
    d_sae = result.d_sae[result.coords["ratio"].index(coords["ratio"])]
    metrics = {name: float(result.final[name][index]) for name in measured}
    return {"cell": cell_name(result.coords, index), **coords, "d_sae": d_sae, **metrics}


def _about(result: Result, coords: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """What a cell's folder says besides the coordinates, under SAELens's names if it has any."""
    run = result.run
    metrics = {name: v for name, v in row.items() if name in result.final and math.isfinite(v)}
    about: dict[str, Any] = {"steps": int(result.steps[-1]), "metrics": metrics}
    architecture = run.get("architectures", {}).get(coords["architecture"], {})
    if "prefixes" in architecture:
        nested = Matryoshka(prefixes=tuple(architecture["prefixes"]))
        about["matryoshka_widths"] = list(nested.sizes(row["d_sae"]))
    data = run.get("data", {}).get(coords["dataset"], {})
    model = data.get("model")
    if data.get("type") != "store" or not isinstance(model, Mapping):
        return about
    packing = model.get("packing", {})
    context = packing.get("context", model.get("config", {}).get("context"))
    about |= {"model_name": model_name(model), "hook_name": data["hook"], "context_size": context}
    if "config" in model:
        about["prepend_bos"] = packing.get("bos") is not None
        # The stream as the weights make it, its mean left where it is.
        about["model_from_pretrained_kwargs"] = {"center_writing_weights": False}
    return about


def _check_same(part: Path, out: Path) -> None:
    """Checks that a folder holds the files it would be given; FileExistsError names the first."""
    new, old = _files(part), _files(out)
    changed = {p for p in new & old if not filecmp.cmp(part / p, out / p, shallow=False)}
    if different := sorted((new ^ old) | changed):
        raise FileExistsError(
            f"out: got {str(out)!r}, which holds another export (another {different[0]}); allowed: "
            "a new or empty folder, or one with the same export (nothing is ever overwritten)"
        )


def _files(root: Path) -> set[Path]:
    """The files of an export without its card, and without what other programs keep beside it."""
    files = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    return {path for path in files if path.parts[0] != CARD and not path.parts[0].startswith(".")}


def parse_where(text: str, result: Result) -> dict[str, Any]:
    """Coordinates from `axis=value,axis=value`, for `Result.select`; ValueError for other text."""
    where: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        name, is_pair, value = part.partition("=")
        if not is_pair or name in where:
            raise ValueError(f"where: got {text!r}, allowed: axis=value,axis=value, each axis once")
        where[name] = value
        if name in result.coords:
            # What is no number is refused by `select`, which says what there is.
            with suppress(ValueError):
                where[name] = type(result.coords[name][0])(value)
    return where


def main() -> None:
    """Prints what was written, or one line that says what is wrong."""
    parser = argparse.ArgumentParser("python -m saejax.export", description=DESCRIPTION)
    parser.add_argument("workdir", help="of a run that has ended")
    parser.add_argument("--format", default="saelens", help=f"one of {', '.join(formats.FORMATS)}")
    out_help = "folder for the export; default: export-FORMAT in the workdir"
    parser.add_argument("--out", help=out_help)
    where_help = "the cells in question: l1=0.1,ratio=2; default: all"
    parser.add_argument("--where", default="", help=where_help)
    parser.add_argument("--upload", metavar="OWNER/NAME", help="repository of the Hugging Face hub")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    args = parser.parse_args()
    try:
        if args.private and not args.upload:
            raise ValueError("private: got it without --upload, allowed: with --upload=OWNER/NAME")
        if args.upload:
            hub.check_repo_id(args.upload)
        out = args.out or Path(args.workdir) / f"export-{args.format}"
        result = load(args.workdir)
        done = export(result, out, args.format, parse_where(args.where, result))
        for name in done.skipped:
            print(f"skipped {name}: frozen as not finite")
        state = "are there already" if done.was_there else "written"
        print(f"{len(done.cells)} SAEs {state}: {done.folder}")
        if args.upload:
            print(hub.upload(done.folder, args.upload, args.private))
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the folder is whole or absent")
