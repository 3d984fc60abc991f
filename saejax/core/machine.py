"""The device and the versions of packages that a run is made with."""

import os
import platform
from importlib import metadata
from typing import Any

import jax

from saejax.core.version import __version__


def machine(*packages: str) -> dict[str, Any]:
    """The device, and the versions of saejax, JAX, NumPy and further packages."""
    device = jax.local_devices()[0]
    versions = {name: metadata.version(name) for name in ("jax", "numpy", *packages)}
    return {
        "device": f"{device.device_kind} ({platform.machine()}, {os.cpu_count()} cores)",
        "versions": {"saejax": __version__, **versions},
    }
