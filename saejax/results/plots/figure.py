"""The figure that every plot returns: matplotlib's, which notebooks show by themselves."""

import io

from matplotlib import figure


class Figure(figure.Figure):
    """A matplotlib Figure that needs neither pyplot nor `%matplotlib inline` to be shown."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=90)
        return buffer.getvalue()
