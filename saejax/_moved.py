"""Where public modules were before the rooms: their old paths still import, and warn.

One row an old module; what it held is looked up at its new places, in their order.
"""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: dict[str, tuple[str, ...]] = {
    "agreement": ("results.compare",),
    "architectures": ("sae.registry",),
    "architectures.base": ("sae.architecture",),
    "architectures.gated": ("sae.gated",),
    "architectures.jumprelu": ("sae.jumprelu",),
    "architectures.matryoshka": ("sae.matryoshka",),
    "architectures.topk": ("sae.topk",),
    "baselines": ("analysis.baselines",),
    "card": ("export.card",),
    "checkpoint": ("core.checkpoints",),
    "chunk": ("training.chunk", "training.batches", "training.evaluate", "training.plan"),
    "claims": ("experiments.common.claims",),
    "data.activations": ("data.store.source",),
    "data.corpus": ("lm.corpus",),
    "data.fed": ("data.host",),
    "data.firing": ("data.synthetic.zipf",),
    "data.hierarchy": ("data.synthetic.hierarchy",),
    "data.imports": ("data.store.imports",),
    "data.magnitudes": ("data.synthetic.magnitudes",),
    "data.manifest": ("data.store.manifest",),
    "data.orthogonal": ("data.synthetic.orthogonal",),
    "data.synthsaebench": ("data.synthetic.synthsaebench",),
    "data.tokens": ("data.token_table",),
    "data.writer": ("data.store.writer",),
    "detection": ("metrics.firing",),
    "devices": ("core.devices",),
    "dictionary": ("sae.trained",),
    "embedding": ("analysis.tsne",),
    "fingerprint": ("core.fingerprint",),
    "forecast": ("training.forecast",),
    "formats": ("export.formats",),
    "formats.dictionary_learning": ("export.dictionary_learning",),
    "formats.saelens": ("export.saelens",),
    "ghost": ("sae.ghost",),
    "hub": ("export.hub",),
    "identity": ("core.program_hash",),
    "lm.latents": ("lm.ablation",),
    "mapping": ("training.map_cells",),
    "matching": ("analysis.mcs",),
    "matching.assignment": ("metrics.one_to_one",),
    "matching.comparison": ("analysis.mcs.comparison",),
    "matching.dictionaries": ("analysis.mcs.dictionaries", "core.linalg"),
    "matching.dip": ("analysis.mcs.dip",),
    "matching.distance": ("analysis.mcs.distance",),
    "matching.explanation": ("analysis.mcs.explanation",),
    "matching.intervals": ("core.stats",),
    "matching.law": ("analysis.mcs.law",),
    "matching.modes": ("analysis.mcs.modes",),
    "matching.shares": ("analysis.mcs.shares",),
    "memory": ("training.memory",),
    "merging": ("results.merge", "results.compare"),
    "pictures": ("results.pictures",),
    "plan": ("training.planning", "training.plan"),
    "plots": ("results.plots",),
    "plots.sweep": ("results.plots.sweep", "core.stats"),
    "precision": ("core.precision",),
    "published": ("experiments.grid.published",),
    "recovery": ("analysis.baseline_fits",),
    "resample": ("sae.revival",),
    "result": ("results.result", "results.axes"),
    "runlog": ("results.workdir", "results.saving", "core.files"),
    "separation": ("analysis.token_groups",),
    "settings": ("training.settings",),
    "sweep": ("training.sweep", "training.cells", "results.axes", "core.keys"),
    "table": ("core.table",),
    "trackers": ("training.trackers",),
    "trackers.interface": ("training.trackers.interface",),
    "trackers.tensorboard": ("training.trackers.tensorboard",),
    "trackers.wandb": ("training.trackers.wandb",),
    "tracking": ("metrics.turnover",),
    "viewer": ("interpret.viewer",),
    "workdir": ("results.workdir",),
}


class _Moved(MetaPathFinder, Loader):
    """Makes a module for an old path that finds its names at the new ones."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        old = fullname.removeprefix("saejax.")
        if old == fullname or old not in MOVED:
            return None
        return ModuleSpec(fullname, self, is_package=any(m.startswith(f"{old}.") for m in MOVED))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        places = MOVED[spec.name.removeprefix("saejax.")]

        def look_up(name: str) -> Any:
            if not name.startswith("__"):
                for place in places:
                    there = importlib.import_module(f"saejax.{place}")
                    if hasattr(there, name):
                        return getattr(there, name)
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}")

        vars(module)["__getattr__"] = look_up
        return module

    def exec_module(self, module: ModuleType) -> None:
        places = MOVED[module.__name__.removeprefix("saejax.")]
        new = " and ".join(f"saejax.{place}" for place in places)
        warnings.warn(f"{module.__name__} is now {new}", FutureWarning, stacklevel=2)


def install() -> None:
    """Old paths import from now on; what stands at a path of today comes first."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
