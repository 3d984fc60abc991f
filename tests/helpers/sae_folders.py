"""SAEs as folders: their files read and changed by hand."""

import json
import struct

import numpy as np
from safetensors.numpy import save_file

from saejax.export import formats
from saejax.export.formats import saelens

FORMATS = tuple(formats.FORMATS)
NEEDS_TORCH = "ae.pt is a file of torch"


def safetensors(path):
    """The tensors of a file of float32, by the documented layout alone."""
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32"
        start, stop = entry["data_offsets"]
        flat = np.frombuffer(data[8 + n + start : 8 + n + stop], "<f4")
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def edit(path, **changes):
    """A file of JSON with some fields changed, or gone where they are None."""
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))


def retensor(folder, change):
    tensors = {name: a.copy() for name, a in safetensors(folder / saelens.WEIGHTS).items()}
    change(tensors)
    save_file(tensors, folder / saelens.WEIGHTS)
