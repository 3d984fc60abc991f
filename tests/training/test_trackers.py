"""Trackers: what TensorBoard and W&B get, and that none of them stops or holds up a run."""

import json
import re
import socket
import struct
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from saejax.results.axes import AXES
from saejax.results.result import Result
from saejax.results.workdir import cell_name
from saejax.training.trackers import TensorBoard, Tracker, Tracking, WandB, as_trackers, events
from saejax.training.trackers import wandb as of_wandb
from saejax.training.trackers.interface import fingerprint

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


# ----------------------------------------------------------------------------------------
# TensorBoard


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


def files(folder):
    return {p.parent.relative_to(folder).as_posix(): p for p in folder.rglob("*tfevents*")}


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


# ---------------------------------------------------------------------------------------- W&B


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """W&B that finds a server which hears everybody and answers nobody."""
    wandb = pytest.importorskip("wandb")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            monkeypatch.setenv(name, str(tmp_path / "home"))
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        wandb.teardown()
        wandb.server = server
        yield wandb
        wandb.teardown()


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


def test_wandb_gets_one_run_with_a_curve_for_every_metric_and_cell(wandb, tmp_path):
    run([WandB("sparse", name="mine", dir=tmp_path)])
    about, rows = offline(tmp_path)
    assert about["run"].project == "sparse"
    assert about["run"].display_name == "mine"
    config = {item.key: json.loads(item.value_json) for item in about["run"].config.update}
    assert config["settings"] == {"steps": 30}
    assert about["exit"] == 0
    assert {step: len(own) for step, own in rows.items()} == dict.fromkeys(STEPS, 1)
    for cell in CELLS:
        for metric in ("mse", "l0"):
            key = f"{metric}/{cell}"
            got = [(step, own[0][key]) for step, own in rows.items() if key in own[0]]
            want = [] if cell == CELLS[7] else expected(cell, metric)
            assert got == [(step, pytest.approx(value, rel=1e-4)) for step, value in want]
    assert rows[30][0]["heatmap_mse._type"] == "image-file"
    assert rows[30][0]["heatmap_mse.caption"] == (
        "Reconstruction error (mse) over L1 and dictionary ratio."
    )
    assert {p.name.partition("_30_")[0] for p in about["pictures"]} == {
        "heatmap_mse",
        "heatmap_mmcs_true_to_dict",
    }
    wandb.server.settimeout(0.1)
    with pytest.raises(TimeoutError):
        wandb.server.accept()


def test_a_run_that_goes_on_offline_is_one_run_with_every_step_once(wandb, tmp_path):
    run([WandB(dir=tmp_path)], STEPS[:2], ends=False)
    before, rows = offline(tmp_path)
    assert before["exit"] == 1
    assert [*rows] == [10, 20]
    run([WandB(dir=tmp_path)])
    after, rows = offline(tmp_path)
    assert after["run"].run_id == before["run"].run_id
    assert {step: len(own) for step, own in rows.items()} == dict.fromkeys(STEPS, 1)


def test_two_sweeps_in_one_folder_are_two_runs_of_wandb(wandb, tmp_path):
    tracker = WandB(dir=tmp_path)
    run([tracker])
    run([tracker], STEPS[:2], ends=False, about=OTHER)
    first, second = (offline(tmp_path, fingerprint(about)) for about in (ABOUT, OTHER))
    assert [[*rows] for _, rows in (first, second)] == [[10, 20, 30], [10, 20]]
    assert [about["exit"] for about, _ in (first, second)] == [0, 1]
    assert {p.name for p in (tmp_path / "wandb").glob("*.txt")} == set()


def test_steps_that_the_server_has_are_not_sent_again(wandb, tmp_path):
    class Run:
        starting_step, logged = 21, []

        def log(self, row, step):
            self.logged.append(step)

        def finish(self, exit_code):
            pass

    tracker = WandB(dir=tmp_path)
    tracker._open = Run
    run([tracker], ends=False)
    assert Run.logged == [30]


def test_nobody_who_is_logged_in_is_said_before_work_starts(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()
    with pytest.raises(ValueError, match=r"wandb: got nobody who is logged in, allowed: .*offline"):
        as_trackers(["wandb"], tmp_path)
    assert not (tmp_path / "wandb").exists()


def test_a_server_that_never_answers_costs_a_warning_and_bounded_time(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(of_wandb, "START", 0.5)
    tracker = WandB(mode="offline", dir=tmp_path)
    tracker.mode = "online"
    started = time.monotonic()
    with pytest.warns(UserWarning, match=r"tracker WandB: (failed|has not ended after 2 s)"):
        run([tracker], patience=2.0)
    assert time.monotonic() - started < 30


# ---------------------------------------------------------------------------------------- guarding


class Kept:
    """A tracker that remembers its calls, and fails or waits in one of them."""

    def __init__(self, bad="", failure=None, wait=None):
        self.bad, self.failure, self.wait, self.calls = bad, failure, wait, []

    def _called(self, name, *arguments):
        self.calls.append((name, *arguments))
        if name == self.bad:
            if self.wait:
                self.wait.wait(10)
            if self.failure:
                raise self.failure

    def start(self, run, coords, d_sae):
        self._called("start", run)

    def evaluation(self, step, coords, d_sae, measured):
        self._called("evaluation", step)

    def finish(self, result):
        self._called("finish")

    def close(self):
        self._called("close")

    @property
    def names(self):
        return [name for name, *_ in self.calls]


WHOLE = ["start", *["evaluation"] * 3, "finish", "close"]


def test_calls_come_in_their_order_and_in_a_thread_of_the_trackers_own():
    kept, threads = Kept(), set()
    kept.__class__ = type(
        "Own",
        (Kept,),
        {"close": lambda self: threads.add(threading.current_thread()) or Kept.close(self)},
    )
    run([kept])
    assert kept.names == WHOLE
    assert threading.current_thread() not in threads
    assert not next(iter(threads)).is_alive()


@pytest.mark.parametrize("bad", ["start", "evaluation", "finish", "close"])
def test_a_tracker_that_fails_is_one_warning_and_the_others_go_on(bad):
    good, failing = Kept(), Kept(bad, OSError("disk full"))
    with pytest.warns(UserWarning, match="failed, and the run goes on without it") as caught:
        run([failing, good])
    assert [str(w.message) for w in caught] == [
        "tracker Kept: failed, and the run goes on without it: OSError: disk full"
    ]
    assert good.names == WHOLE
    # Nothing comes after the failure but `close`, once.
    assert failing.names == [*WHOLE[: WHOLE.index(bad) + 1], *["close"][: bad != "close"]]


def test_a_tracker_that_fails_in_close_too_is_told_of_once():
    class Failing(Kept):
        def _called(self, name, *arguments):
            raise OSError(name)

    with pytest.warns(UserWarning, match="failed, and the run goes on without it") as caught:
        run([Failing()])
    assert len(caught) == 1
    assert str(caught[0].message).endswith("OSError: start")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_tracker_cannot_end_the_run(stop):
    good = Kept()
    with pytest.warns(
        UserWarning, match=f"the run goes on without it: {stop.__name__}: bye"
    ) as caught:
        run([Kept("evaluation", stop("bye")), good])
    assert len(caught) == 1
    assert good.names == WHOLE


def test_a_slow_tracker_does_not_hold_up_the_steps_and_is_waited_for_at_the_end():
    go_on = threading.Event()
    slow = Kept("evaluation", wait=go_on)
    with Tracking([slow]) as tracking:
        tracking.start({}, COORDS, D_SAE)
        for step in STEPS:
            tracking.evaluation(step, COORDS, D_SAE, measured(step))
        assert len(slow.names) <= 2
        go_on.set()
    assert slow.names == [*WHOLE[:4], "close"]


def test_a_tracker_that_hangs_is_left_behind():
    go_on, good = threading.Event(), Kept()
    hanging = Kept("evaluation", wait=go_on)
    with pytest.warns(
        UserWarning, match=r"tracker Kept: has not ended after 0\.5 s and is left behind"
    ):
        run([hanging, good], patience=0.5)
    assert hanging.names == WHOLE[:2]
    assert good.names == WHOLE
    go_on.set()


def test_a_run_that_is_interrupted_closes_its_trackers():
    def interrupted():
        with Tracking([kept]) as tracking:
            tracking.start({}, COORDS, D_SAE)
            raise KeyboardInterrupt

    kept = Kept()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert kept.names == ["start", "close"]


def test_what_a_run_notes_later_does_not_reach_a_tracker_that_has_started():
    kept, about = Kept(), {"settings": {"steps": 1}}
    with Tracking([kept]) as tracking:
        tracking.start(about, COORDS, D_SAE)
        about["settings"]["steps"] = 2
    assert kept.calls[0] == ("start", {"settings": {"steps": 1}})


def test_no_file_is_written_before_the_first_evaluation(wandb, tmp_path):
    run(as_trackers(["tensorboard", "wandb"], tmp_path), steps=(), ends=False)
    assert not {p.name for p in tmp_path.iterdir()} & {"tensorboard", "wandb"}


# ---------------------------------------------------------------------------------------- by name


def test_trackers_by_name_write_to_folders_of_their_own(wandb, tmp_path):
    kept = Kept()
    trackers = as_trackers(["tensorboard", kept, "wandb"], str(tmp_path))
    assert trackers[1] is kept
    run(trackers, STEPS[:1], ends=False)
    assert {"tensorboard", "wandb"} <= {p.name for p in tmp_path.iterdir()}
    assert files(tmp_path / "tensorboard")
    assert offline(tmp_path)[1]


@pytest.mark.parametrize(
    ("trackers", "workdir", "kind", "text"),
    [
        (["mlflow"], "w", ValueError, "trackers: got 'mlflow', allowed: tensorboard, wandb"),
        (
            ["tensorboard"] * 2,
            "w",
            ValueError,
            "trackers: got 'tensorboard' twice, allowed: each once",
        ),
        (
            ["tensorboard"],
            None,
            ValueError,
            "trackers: got 'tensorboard' in a run without a workdir",
        ),
        (
            "tensorboard",
            "w",
            TypeError,
            r"trackers: got 'tensorboard', allowed: several, like \['tens",
        ),
        ([3], "w", TypeError, "trackers: got int, allowed: tensorboard, wandb, or an object with"),
    ],
)
def test_what_is_no_tracker_is_refused(trackers, workdir, kind, text, tmp_path, unchecked):
    with pytest.raises(kind, match=text):
        as_trackers(trackers, workdir and tmp_path / workdir)
    assert list(tmp_path.iterdir()) == []


def test_without_wandb_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match=re.escape('pip install "saejax[trackers]"')):
        as_trackers(["wandb"], tmp_path)


def test_an_unknown_mode_of_wandb_is_refused():
    with pytest.raises(
        ValueError, match=r"mode: got 'disabled', allowed: None, 'online', 'offline'"
    ):
        WandB(mode="disabled")


def test_trackers_of_the_package_are_trackers():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(TensorBoard("x"), Tracker)
        assert isinstance(Kept(), Tracker)
        assert not isinstance(object(), Tracker)
