"""Annotations of saejax are checked while the tests run, and only then."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

install_import_hook("saejax", "typechecker.check")
