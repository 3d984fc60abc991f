"""A run made up for the tests of trackers."""

import json
import struct

import numpy as np

from saejax.results.axes import AXES
from saejax.results.result import Result
from saejax.results.workdir import cell_name
from saejax.training.trackers import Tracking

COORDS = {
    "dataset": ("mine",),
    "seed": (0, 1),
    "ratio": (1.0, 2.0),
    "l1": (0.01, 0.1),
    "lr": (1e-3,),
    "resample": ("off",),
    "architecture": ("relu",),
    "k": (0,),
}
COORDS = {name: COORDS[name] for name in AXES}
SHAPE = tuple(len(values) for values in COORDS.values())
D_SAE = (8, 16)
STEPS = (10, 20, 30)
CELLS = [cell_name(COORDS, index) for index in np.ndindex(*SHAPE)]
FROZEN, ABSENT = (0, 1, 0, 1, *[0] * (len(AXES) - 4)), (0, 1, 1, 1, *[0] * (len(AXES) - 4))


def measured(step):
    """Measurements of a step, with a cell that froze at the second, one that is none, and a
    vector."""
    mse = np.arange(8.0).reshape(SHAPE) + step
    l0 = mse / 7
    l0[(0, *[0] * (len(AXES) - 1))] = np.nan
    frozen_at = np.full(SHAPE, -1)
    frozen_at[FROZEN] = 15 if step > 15 else -1
    frozen_at[ABSENT] = -2
    return {"mse": mse, "l0": l0, "frozen_at": frozen_at, "best_index": np.zeros((*SHAPE, 3), int)}


def expected(cell, name):
    """Step and number of what a curve of a cell has to show."""
    index = [*np.ndindex(*SHAPE)][CELLS.index(cell)]
    each = [(step, measured(step)) for step in STEPS]
    return [
        (step, float(f"{m[name][index]:.5g}"))
        for step, m in each
        if np.isfinite(m[name][index]) and m["frozen_at"][index] == -1
    ]


def result():
    final = measured(STEPS[-1])
    final.pop("best_index")
    final["mmcs_true_to_dict"] = np.linspace(0, 1, 8).reshape(SHAPE)
    run = {"settings": {"steps": STEPS[-1]}, "data": {"mine": {}}, "coords": COORDS}
    return Result(
        coords=COORDS,
        d_sae=D_SAE,
        run=run,
        steps=np.array(STEPS),
        history={},
        final=final,
        best_index=None,
        best_cosine=None,
        features=None,
        load_params=lambda index: None,
    )


ABOUT = {"settings": {"steps": 30}, "d_in": 4}
OTHER = {**ABOUT, "settings": {"steps": 30, "seed": 1}}


def run(trackers, steps=STEPS, ends=True, patience=60.0, about=ABOUT):
    """What a run does with its trackers."""
    with Tracking(trackers, patience) as tracking:
        tracking.start(about, COORDS, D_SAE)
        for step in steps:
            tracking.evaluation(step, COORDS, D_SAE, measured(step))
        if ends:
            tracking.finish(result())


def files(folder):
    return {p.parent.relative_to(folder).as_posix(): p for p in folder.rglob("*tfevents*")}


def records(file):
    """What a .wandb file holds behind 7 bytes: records, in pieces, in blocks of 32 KiB."""
    data, at, parts = file.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield parts
            parts = b""


def offline(folder, own="*"):
    """Run, exit code and pictures of the only offline run (of an id) of a folder; its rows by
    step."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # Its process writes the last of the file when it ends.
    (file,) = folder.glob(f"wandb/offline-run-*-{own}/*.wandb")
    rows, about = {}, {}
    for record in map(Record.FromString, records(file)):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = {i.key or ".".join(i.nested_key): i.value_json for i in record.history.item}
            items = {key: json.loads(text) for key, text in items.items()}
            rows.setdefault(items.pop("_step"), []).append(items)
        elif kind == "run":
            about["run"] = record.run
        elif kind == "exit":
            about["exit"] = record.exit.exit_code
    about["pictures"] = [*file.parent.glob("files/media/images/*.png")]
    return about, rows
