"""The first page of a viewer: every SAE of the sweep, as heat maps and as a table."""

import itertools
from collections.abc import Sequence
from string import Template
from typing import Any, NamedTuple

import numpy as np

from saejax.core.table import show
from saejax.interpret.dashboard import Dashboard
from saejax.interpret.viewer.encoding import Study
from saejax.interpret.viewer.page import asset, policy, script, text

# Shades of the style sheet, from none to full.
SHADES = 9
MEASURES = {"dead_share": "Dead latents", "median_density": "Median density"}


class Entry(NamedTuple):
    """What the index shows of one SAE.

    The median density, a share of tokens, is of the latents that fire; None where none does.
    `labelled` latents have a theme, `polysemantic` ones have none, as their labeller says.
    """

    name: str
    coords: dict[str, Any]
    latents: int
    dead_share: float
    median_density: float | None
    labelled: int
    polysemantic: int


def entry(board: Dashboard) -> Entry:
    """What the index shows of one SAE."""
    densities = board.firings[board.firings > 0] / len(board.sample.tokens)
    polysemantic = sum(label.polysemantic for label in board.labels.values())
    return Entry(
        name=board.name,
        coords=dict(board.coords),
        latents=len(board.firings),
        dead_share=float(board.dead.mean()),
        median_density=float(np.median(densities)) if densities.size else None,
        labelled=len(board.labels) - polysemantic,
        polysemantic=polysemantic,
    )


def index_page(entries: Sequence[Entry], study: Study) -> str:
    """The page's HTML; all text is escaped."""
    style, code = asset("style.css"), script(["index"])
    maps = "".join(_map(entries, name, title) for name, title in MEASURES.items())
    return Template(asset("index.html")).substitute(
        title=text(study.title),
        note=f"<p>{text(study.note)}</p>" if study.note else "",
        count=f"{len(entries)} sparse autoencoder{'s' if len(entries) > 1 else ''}",
        threshold=f"{study.dead_threshold:g}",
        policy=policy(style, code),
        style=style,
        script=code,
        maps=f'<div class="maps">{maps}</div>' if maps else "",
        table=_table(entries),
    )


def percent(share: float | None) -> str:
    """A share in per cent to three figures; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.3g} %"


def shades(values: Sequence[float | None]) -> list[int]:
    """A shade for each value, 1 the least; 0 where there is no value or all are equal."""
    known = [v for v in values if v is not None] or [0.0]
    low, span = min(known), max(known) - min(known)
    return [
        0 if v is None or not span else 1 + round((SHADES - 1) * (v - low) / span) for v in values
    ]


def _varying(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    """The coordinates in which the SAEs differ, with their values, numbers in order."""
    names = dict.fromkeys(name for e in entries for name in e.coords)
    values = {name: list(dict.fromkeys(e.coords.get(name) for e in entries)) for name in names}
    return {
        name: sorted(each) if all(isinstance(v, int | float) for v in each) else each
        for name, each in values.items()
        if len(each) > 1
    }


def _map(entries: Sequence[Entry], measure: str, title: str) -> str:
    """A heat map over the coordinates that vary, the longest of them across; none below two."""
    axes = _varying(entries)
    if len(axes) < 2:
        return ""
    across = max(axes, key=lambda name: len(axes[name]))
    down = [name for name in axes if name != across]
    shade_of = zip(entries, shades([getattr(e, measure) for e in entries]), strict=True)
    cells = {
        tuple(e.coords.get(name) for name in (*down, across)): _map_cell(e, measure, shade)
        for e, shade in shade_of
    }
    if len(cells) < len(entries):
        return ""
    rows = []
    for where in itertools.product(*(axes[name] for name in down)):
        squares = [cells.get((*where, value)) for value in axes[across]]
        if any(squares):
            side = "".join(f'<th scope="row">{text(show(v))}</th>' for v in where)
            rows.append(side + "".join(square or "<td></td>" for square in squares))
    titles = [*down, *(f"{across} {show(value)}" for value in axes[across])]
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in titles)
    caption, table = f"<figcaption>{title}</figcaption>", _html_table(head, rows)
    return f'<figure class="map">{caption}<div class="scroll">{table}</div></figure>'


def _map_cell(e: Entry, measure: str, shade: int) -> str:
    link = f'<a href="{e.name}.html" title="{e.name}">{percent(getattr(e, measure))}</a>'
    return f'<td class="shade-{shade}">{link}</td>'


def _html_table(head: str, rows: Sequence[str]) -> str:
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _table(entries: Sequence[Entry]) -> str:
    names = list(dict.fromkeys(name for e in entries for name in e.coords))
    columns = ("latents", "dead", "median density", "with a theme", "polysemantic")
    # Headings stand above the side on which their column's cells do.
    right = [False, *(_is_number(entries[0].coords.get(name)) for name in names), *[True] * 5]
    head = "".join(
        f'<th scope="col"{_kind(number)} aria-sort="none">'
        f'<button type="button">{text(name)}</button></th>'
        for name, number in zip(["SAE", *names, *columns], right, strict=True)
    )
    dead = shades([e.dead_share for e in entries])
    density = shades([e.median_density for e in entries])
    rows = []
    for e, dead_shade, density_shade in zip(entries, dead, density, strict=True):
        cells = [
            f'<th scope="row"><a href="{e.name}.html">{e.name}</a></th>',
            *(_cell(e.coords.get(name), show(e.coords.get(name))) for name in names),
            _cell(e.latents, f"{e.latents:,}"),
            _cell(e.dead_share, percent(e.dead_share), dead_shade),
            _cell(e.median_density, percent(e.median_density), density_shade),
            _cell(e.labelled, f"{e.labelled:,}"),
            _cell(e.polysemantic, f"{e.polysemantic:,}"),
        ]
        rows.append("".join(cells))
    return _html_table(head, rows)


def _cell(value: Any, shown: str, shade: int = 0) -> str:
    number = _is_number(value)
    key = f"{value:.17g}" if number else shown
    return f'<td{_kind(number, shade)} data-key="{text(key)}">{text(shown)}</td>'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(number: bool, shade: int = 0) -> str:
    kinds = ["number"] * number + [f"shade-{shade}"] * (shade > 0)
    return f' class="{" ".join(kinds)}"' if kinds else ""
