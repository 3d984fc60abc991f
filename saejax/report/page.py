"""A self-contained HTML page of a workdir, built from top to bottom."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from saejax.runlog import write_bytes, write_text
from saejax.table import Table

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
.warn{background:#fff3cd;padding:.6rem 1rem;border-radius:4px}code{background:#f4f4f4;padding:0 .2em}
"""


class Page:
    """Writes a workdir's figures/ and tables/ as they come, and `report.html` at the end.

    All text is escaped; pictures are embedded, so the page needs no other file.

    Args:
        workdir: the folder.
        title: the page's first heading.
    """

    def __init__(self, workdir: Path, title: str) -> None:
        self.path = workdir
        self._parts: list[str] = []
        self.heading(title, level=1)

    def heading(self, text: str, level: int = 2) -> None:
        """A heading; the title is of level 1, sections are of level 2."""
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
        """A table.

        Args:
            table: its rows.
            name: where given, the table is kept as tables/NAME.csv too.
            words: whether its cells wrap and stand to the left.
            scroll: whether a long one scrolls in a box of its own.
        """
        if name:
            self.keep_table(table, name)
        kind = f"scroll{' words' if words else ''}{'' if scroll else ' whole'}"
        self._parts.append(f'<div class="{kind}">{table.to_html()}</div>')

    def keep_table(self, table: Table, name: str) -> None:
        """A table that is too long for the page, as tables/NAME.csv alone."""
        (self.path / "tables").mkdir(exist_ok=True)
        write_text(self.path / "tables" / f"{name}.csv", table.to_csv())

    def verbatim(self, text: str) -> None:
        """Text as it is, in a fixed-width font."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def figure(self, name: str, caption: str, figure: Figure) -> None:
        """A picture, kept as figures/NAME.png too."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        self._parts.append(self._picture(f"{name}.png", caption, buffer.getvalue()))

    def gallery(self, pictures: Sequence[tuple[str, str, bytes]]) -> None:
        """Animations side by side: name, caption and content of a GIF each, kept in figures/ too."""
        inner = "".join(self._picture(f"{name}.gif", text, data) for name, text, data in pictures)
        self._parts.append(f'<div class="gallery">{inner}</div>')

    def _picture(self, file: str, caption: str, data: bytes) -> str:
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        write_bytes(folder / file, data)
        text, encoded = html.escape(caption), base64.b64encode(data).decode()
        kind = file.rpartition(".")[2]
        return (
            f'<figure><img alt="{text}" src="data:image/{kind};base64,{encoded}">'
            f"<figcaption>{text}</figcaption></figure>"
        )

    def write(self) -> Path:
        """Writes report.html and returns its path."""
        page = self.path / "report.html"
        write_text(
            page,
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>saejax report</title>'
            f"<style>{STYLE}</style></head><body>{''.join(self._parts)}</body></html>\n",
        )
        return page
