"""What TensorBoard gets of a run."""

import json
import re
import struct

import numpy as np
import pytest
from helpers.tracked import ABSENT, CELLS, OTHER, SHAPE, STEPS, expected, files, run

from saejax.training.trackers import TensorBoard, events
from saejax.training.trackers.interface import fingerprint

# -------------------------------------------------------------------------------------- TensorBoard


def fields(data):
    """Number, kind and value of every field of a protocol buffer."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, data[at : at + size]
        at += size


def read(file):
    """(step, tag, number or PNG) of an event file; its first record is left out."""
    data, at, out = file.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        event = dict(fields(data[at + 12 : at + 12 + length]))
        at += 12 + length + 4
        if at == 12 + length + 4:
            assert event[3] == b"brain.Event:2"
            continue
        for _, value in fields(event[5]):
            value = dict(fields(value))
            shown = struct.unpack("<f", value[2])[0] if 2 in value else dict(fields(value[4]))[4]
            out.append((event[2], value[1].decode(), shown))
    return out


def curve(file, tag):
    return [
        (step, pytest.approx(number, rel=1e-4)) for step, own, number in read(file) if own == tag
    ]


@pytest.mark.parametrize(
    ("data", "crc"),
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (b"", 0)],
)
def test_checksums_are_those_of_rfc_3720(data, crc):
    assert events.crc32c(data) == crc


def test_every_cell_is_a_run_of_tensorboard_and_every_metric_a_chart(tmp_path):
    run([TensorBoard(tmp_path)])
    found = files(tmp_path)
    assert {*found} == {".", *CELLS} - {CELLS[[*np.ndindex(*SHAPE)].index(ABSENT)]}
    for cell, file in found.items():
        if cell != ".":
            assert {tag for _, tag, _ in read(file)} <= {"mse", "l0"}
            assert curve(file, "mse") == expected(cell, "mse")
            assert curve(file, "l0") == expected(cell, "l0")


def test_heat_maps_are_pictures_of_the_last_step(tmp_path):
    run([TensorBoard(tmp_path)])
    shown = read(files(tmp_path)["."])
    assert [(step, tag) for step, tag, _ in shown] == [
        (30, "heatmap_mmcs_true_to_dict"),
        (30, "heatmap_mse"),
    ]
    assert all(png.startswith(b"\x89PNG") for *_, png in shown)


def test_a_run_that_goes_on_has_every_step_once(tmp_path):
    run([TensorBoard(tmp_path)], STEPS[:2], ends=False)
    (tmp_path / "notes.txt").write_text("mine")
    run([TensorBoard(tmp_path)])
    assert len([*tmp_path.rglob("*tfevents*")]) == len(files(tmp_path))
    assert curve(files(tmp_path)[CELLS[0]], "mse") == expected(CELLS[0], "mse")
    assert (tmp_path / "notes.txt").exists()


def test_two_sweeps_in_one_folder_keep_their_own_files(tmp_path):
    run([TensorBoard(tmp_path)], STEPS[:2])
    first = {p: p.read_bytes() for p in tmp_path.rglob("*tfevents*")}
    tracker = TensorBoard(tmp_path)
    for _ in range(2):  # the second time it goes on
        run([tracker], about=OTHER)
        both = {*tmp_path.rglob("*tfevents*")}
        assert len(both) == 2 * len(first)
        assert {p: p.read_bytes() for p in first} == first
    (file,) = {*(tmp_path / CELLS[0]).iterdir()} - {*first}
    assert curve(file, "mse") == expected(CELLS[0], "mse")


def test_a_run_that_goes_on_and_measures_nothing_keeps_its_files(tmp_path):
    run([TensorBoard(tmp_path)])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*tfevents*")}
    run([TensorBoard(tmp_path)], steps=(), ends=False)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*tfevents*")} == before


@pytest.mark.parametrize("name", ["coords", "d_sae", "settings", "architectures", "data", "study"])
def test_the_fingerprint_is_of_what_makes_a_run_the_same_run(name):
    whole = {name: {"b": (1, 2), "a": 0.5}, "d_in": 4}
    own = fingerprint(whole)
    assert re.fullmatch("[0-9a-f]{12}", own)
    # Neither what is noted while it goes on, nor how it is written, nor the way through a file.
    later = json.loads(json.dumps({"resumed": [1], "d_in": 4, name: {"a": 0.5, "b": [1, 2]}}))
    assert fingerprint(later) == own
    assert fingerprint({name: {"b": (1, 3), "a": 0.5}, "d_in": 4}) != own


def test_tensorboard_itself_reads_the_files(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run([TensorBoard(tmp_path)])
    cell = accumulator.EventAccumulator(str(tmp_path / CELLS[3]))
    cell.Reload()
    for tag in ("mse", "l0"):
        found = [(event.step, event.value) for event in cell.Scalars(tag)]
        assert found == [(s, pytest.approx(v, rel=1e-4)) for s, v in expected(CELLS[3], tag)]
    whole = accumulator.EventAccumulator(str(tmp_path))
    whole.Reload()
    (image,) = whole.Images("heatmap_mse")
    png = image.encoded_image_string
    assert (image.width, image.height) == struct.unpack(">II", png[16:24])
