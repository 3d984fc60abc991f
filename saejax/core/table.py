"""A small table of rows that are dicts, aligned in a terminal and HTML in a notebook."""

import csv
import html
import io
import math
from collections.abc import Callable
from typing import Any


def show(value: Any) -> str:
    """A cell as text to be read: numbers to four figures, an empty text for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def exact(value: Any) -> str:
    """A cell as text for a CSV: numbers to seven figures, else as `show`."""
    return f"{value:.7g}" if isinstance(value, float) and not math.isnan(value) else show(value)


class Table(list[dict[str, Any]]):
    """Rows with the same columns; `pandas.DataFrame(table)` takes it as it is."""

    def __getitem__(self, index: Any) -> Any:
        rows = super().__getitem__(index)
        return Table(rows) if isinstance(index, slice) else rows

    def __repr__(self) -> str:
        return str(self)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self[0]) if self else []

    def _cells(self, as_text: Callable[[Any], str]) -> list[list[str]]:
        return [[as_text(row[name]) for name in self.columns] for row in self]

    def __str__(self) -> str:
        lines = [self.columns, *self._cells(show)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(text.rjust(n) for text, n in zip(line, widths, strict=True)) for line in lines
        )

    def to_html(self) -> str:
        """An HTML table; all text is escaped."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in line) + "</tr>"
            for line in self._cells(show)
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    _repr_html_ = to_html

    def to_csv(self) -> str:
        """The table as CSV text, with a header."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self._cells(exact))
        return out.getvalue()
