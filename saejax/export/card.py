"""The model card of an export: what was trained, on what, what came out, and how to load it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from saejax.core.table import Table, show
from saejax.core.version import __version__
from saejax.metrics.catalogue import LARGER_IS_BETTER
from saejax.results.result import Result

# Its name in an export, which is where hubs look for it.
CARD = "README.md"
# Columns of the table of results; the first of them that was measured ranks the SAEs.
SHOWN = ("mmcs_true_to_dict", "fvu", "mse", "l0", "dead_latents")
ROWS = 10
LOADING = {
    "saelens": """\
from sae_lens import SAE  # pip install sae-lens

sae = SAE.load_from_disk("{cell}")  # or, from the hub, SAE.from_pretrained("OWNER/NAME", "{cell}")
""",
    "dictionary_learning": """\
from dictionary_learning.utils import load_dictionary  # pip install dictionary-learning

sae, config = load_dictionary("{cell}", device="cpu")
""",
}
HEAD = """---
library_name: {library}
tags:
- sparse-autoencoder
- saejax
# license: say which, for example mit; without one nobody may use these weights
---

# {n} of inputs of width {d_in}

Trained side by side with saejax {version}. Every folder is one SAE, named by its coordinates in the
sweep; [cells.csv](cells.csv) lists all of them with their measurements.

## How to load one

```python
{loading}x_hat = sae(x)  # a tensor [batch, {d_in}]
```

In saejax itself: `from saejax import formats; sae = formats.load("{cell}")`.

## What was trained
"""


def model_card(result: Result, cells: Table, skipped: Sequence[str], format: str) -> str:
    """The text of a README.md with the front matter of the Hugging Face hub.

    Args:
        result: of the run.
        cells: a row for each exported SAE: its folder as `cell`, its coordinates, d_sae,
            measurements.
        skipped: names of cells that were frozen as not finite.
        format: key of `LOADING`.
    """
    run, best = result.run, _ranked(cells)
    cell, d_in = best[0]["cell"], run.get("d_in")
    head = HEAD.format(
        library=format,
        n=f"{len(cells)} sparse autoencoder{'s' * (len(cells) > 1)}",
        d_in=d_in,
        version=run.get("versions", {}).get("saejax", __version__),
        loading=LOADING[format].format(cell=cell),
        cell=cell,
    )
    lines = [head]
    for name, values in {**result.coords, "d_sae": result.d_sae}.items():
        exported = {row[name] for row in cells}
        shown = (_code(show(value)) for value in dict.fromkeys(values) if value in exported)
        lines.append(f"- {name}: {', '.join(shown)}")
    batch_size = run.get("settings", {}).get("batch_size")
    lines.append(f"- steps: {result.steps[-1]}, of {batch_size} samples")
    if skipped:
        lines.append(f"- frozen as not finite, and left out: {', '.join(map(_code, skipped))}")
    lines.append("\n## On what\n")
    for name in dict.fromkeys(row["dataset"] for row in cells):
        facts = about_data(run.get("data", {}).get(name, {})).items()
        lines.append(f"- {_code(name)}: " + ", ".join(f"{k} {_code(show(v))}" for k, v in facts))
    lines += ["\n## Results\n", *_results(best, len(cells)), "\n## Settings\n"]
    settings = {"settings": run.get("settings"), "versions": run.get("versions")}
    lines.append(f"```json\n{json.dumps(settings, indent=1)}\n```\n")
    return "\n".join(lines)


def about_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of a data set, from its description in `run.json`.

    Of a language model's text, which may name paths of a machine, it says the model's name alone.
    """
    facts = {name: value for name, value in data.items() if name != "model"}
    name = model_name(data.get("model") or {})
    return facts | ({"model": name} if name else {})


def model_name(model: Mapping[str, Any]) -> str | None:
    """The language model of a store's activations; GPT-2 as SAELens and TransformerLens name it."""
    name = model.get("pretrained", model).get("name")
    return name.removeprefix("openai-community/") if isinstance(name, str) else None


def _ranked(cells: Table) -> list[dict[str, Any]]:
    """The rows, best first, by the first of `SHOWN` that was measured."""
    first = next((name for name in SHOWN if name in cells[0]), None)
    if first is None:
        return list(cells)
    sign = -1 if LARGER_IS_BETTER[first] else 1
    return sorted(cells, key=lambda row: sign * row[first])


def _results(best: Sequence[Mapping[str, Any]], n: int) -> list[str]:
    columns = ["cell", "d_sae", *(name for name in SHOWN if name in best[0])]
    rows = [[_code(row["cell"]), *(show(row[name]) for name in columns[1:])] for row in best[:ROWS]]
    rule = ["---", *["---:"] * (len(columns) - 1)]
    head = [f"The best {ROWS} of {n}:\n"] if n > ROWS else []
    return [*head, *(f"| {' | '.join(line)} |" for line in (columns, rule, *rows))]


def _code(text: Any) -> str:
    return f"`{text}`"
