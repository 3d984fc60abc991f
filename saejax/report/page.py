"""A self-contained HTML page of a workdir, built from top to bottom."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from saejax.core.files import write_bytes, write_text
from saejax.core.table import Table

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin-top:2.4rem;border-bottom:1px solid #ddd}
h3{font-size:1.05rem;margin:1.6rem 0 .4rem}
img{max-width:100%;height:auto}figure{margin:1rem 0}figcaption{color:#555;font-size:.9rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:.6rem}
.gallery figure{margin:0}
table{border-collapse:collapse;font-size:.8rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .55rem;text-align:right;border-bottom:1px solid #eee;white-space:nowrap}
th{background:#f6f6f6;position:sticky;top:0}.scroll{overflow:auto;max-height:32rem}
.whole{max-height:none}
.words td,.words th{text-align:left;white-space:normal;vertical-align:top}
.warn{background:#fff3cd;padding:.6rem 1rem;border-radius:4px}\
code{background:#f4f4f4;padding:0 .2em}
"""


class Picture(NamedTuple):
    """A picture of a page: name, caption, and a figure or a function that draws a GIF."""

    name: str
    caption: str
    content: Figure | Callable[[], bytes]


class Page:
    """Text, tables and pictures of a workdir; no file is touched before `write`.

    All text is escaped; pictures are embedded, so the page needs no other file. `path` is the
    workdir, and `tables` are those that are kept as files, by name.
    """

    def __init__(self, workdir: Path, title: str) -> None:
        self.path = workdir
        self.tables: dict[str, Table] = {}
        self._parts: list[str | Picture] = []
        self.heading(title, level=1)

    def heading(self, text: str, level: int = 2) -> None:
        """A heading; the title has level 1, sections have level 2."""
        self._parts.append(f"<h{level}>{html.escape(text)}</h{level}>")

    def paragraph(self, text: str, warning: bool = False) -> None:
        """A paragraph, on a coloured ground where it is a warning."""
        kind = ' class="warn"' if warning else ""
        self._parts.append(f"<p{kind}>{html.escape(text)}</p>")

    def link(self, path: str, text: str) -> None:
        """A link to another file of the workdir."""
        self._parts.append(f'<p><a href="{html.escape(path)}">{html.escape(text)}</a></p>')

    def points(self, texts: Sequence[str]) -> None:
        """A list with a bullet each."""
        items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
        self._parts.append(f"<ul>{items}</ul>")

    def table(self, table: Table, name: str = "", words: bool = False, scroll: bool = True) -> None:
        """A table, with a name kept as tables/NAME.csv too.

        Args:
            table: its rows.
            name: of the file.
            words: whether its cells wrap and stand to the left.
            scroll: whether a long one scrolls in a box of its own.
        """
        if name:
            self.keep_table(table, name)
        kind = f"scroll{' words' if words else ''}{'' if scroll else ' whole'}"
        self._parts.append(f'<div class="{kind}">{table.to_html()}</div>')

    def keep_table(self, table: Table, name: str) -> None:
        """A table that is too long for the page, as tables/NAME.csv alone."""
        self.tables[name] = table

    def verbatim(self, text: str) -> None:
        """Text as it is, in a fixed-width font."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def figure(self, name: str, caption: str, figure: Figure) -> None:
        """A picture, kept as figures/NAME.png too."""
        self._parts.append(Picture(name, caption, figure))

    def gallery(self, films: Sequence[tuple[str, str, Callable[[], bytes]]]) -> None:
        """Animations side by side, kept as figures/NAME.gif too: names, captions, and functions.

        Frames take long to draw, so these functions are called when the GIFs are asked for.
        """
        self._parts += ['<div class="gallery">', *(Picture(*film) for film in films), "</div>"]

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by name; none once the page is written."""
        return {p.name: p.content for p in self._pictures() if isinstance(p.content, Figure)}

    def films(self) -> dict[str, bytes]:
        """The animations by name, as GIFs, drawn now; none once the page is written."""
        return {p.name: p.content() for p in self._pictures() if not isinstance(p.content, Figure)}

    def _pictures(self) -> list[Picture]:
        return [part for part in self._parts if isinstance(part, Picture)]

    def write(self) -> Path:
        """Writes figures/, tables/ and, when these are complete, report.html; returns its path."""
        if self.tables:
            (self.path / "tables").mkdir(exist_ok=True)
        for name, table in self.tables.items():
            write_text(self.path / "tables" / f"{name}.csv", table.to_csv())
        for i, part in enumerate(self._parts):
            if isinstance(part, Picture):
                # In its place, because a figure that was rendered holds on to all of its pixels.
                self._parts[i] = self._embed(part)
        page = self.path / "report.html"
        write_text(
            page,
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            "<title>saejax report</title>"
            f"<style>{STYLE}</style></head><body>{''.join(map(str, self._parts))}</body></html>\n",
        )
        return page

    def _embed(self, picture: Picture) -> str:
        """Writes a picture's file and returns the part of the page that shows it."""
        if isinstance(picture.content, Figure):
            kind, buffer = "png", io.BytesIO()
            picture.content.savefig(buffer, format=kind, dpi=120)
            data = buffer.getvalue()
        else:
            kind, data = "gif", picture.content()
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        write_bytes(folder / f"{picture.name}.{kind}", data)
        text, encoded = html.escape(picture.caption), base64.b64encode(data).decode()
        return (
            f'<figure><img alt="{text}" src="data:image/{kind};base64,{encoded}">'
            f"<figcaption>{text}</figcaption></figure>"
        )
