"""Published results of SynthSAEBench-16k."""

import json
from functools import cache
from pathlib import Path


@cache
def synthbench() -> dict[int, dict[str, dict[str, tuple[float, ...]]]]:
    """Published results on SynthSAEBench-16k: L0 -> architecture -> metric -> (mean, sd)."""
    stored = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    return {
        int(l0): {
            name: dict(zip(stored["metrics"], zip(v[::2], v[1::2], strict=True), strict=True))
            for name, v in rows.items()
        }
        for l0, rows in stored["l0"].items()
    }
