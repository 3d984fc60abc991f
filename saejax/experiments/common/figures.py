"""What the pictures of several studies share: heat maps with a text in every cell."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize


def annotated(
    ax: Any,
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    cmap: Any,
    norm: Normalize,
    size: float = 8,
) -> Any:
    """A heat map with a text in every cell that has a value, white where the cell is dark.

    Args:
        ax: the panel.
        values: [rows, columns], NaN where there is none.
        texts: likewise.
        cmap, norm: colours of the values.
        size: of the texts.
    """
    cmap = cmap.with_extremes(bad="0.9")
    image = ax.imshow(np.ma.masked_invalid(values), cmap=cmap, norm=norm, aspect="auto")
    for i, j in np.argwhere(np.isfinite(values)):
        red, green, blue, _ = cmap(norm(values[i, j]))
        colour = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"
        ax.text(j, i, texts[i][j], ha="center", va="center", fontsize=size, color=colour)
    return image
