"""What a run is made on."""

import os
import platform
from importlib import metadata
from typing import Any

import jax

from saejax.core.version import __version__


def machine(*packages: str) -> dict[str, Any]:
    """What a run is made on: device and versions, those of further packages among them."""
    device = jax.local_devices()[0]
    return {
        "device": f"{device.device_kind} ({platform.machine()}, {os.cpu_count()} cores)",
        "versions": {
            "saejax": __version__,
            **{name: metadata.version(name) for name in ("jax", "numpy", *packages)},
        },
    }
