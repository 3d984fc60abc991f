"""Frames to an animated GIF, by Pillow (which matplotlib brings along)."""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image


def encode(frames: Iterable[np.ndarray], seconds: float = 0.12, last: float = 3.0) -> bytes:
    """An endlessly repeated animation.

    Args:
        frames: pixels [height, width, 3] of 8 bits, one or more.
        seconds: how long each frame stands.
        last: how long the last one does.
    """
    images = [Image.fromarray(frame) for frame in frames]
    # One palette for all frames, so that colours do not flicker.
    palette = images[-1].quantize(colors=256)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    times = [round(1000 * seconds)] * (len(images) - 1) + [round(1000 * last)]
    out = io.BytesIO()
    images[0].save(
        out, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0, optimize=False
    )
    return out.getvalue()
