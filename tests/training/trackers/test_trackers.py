"""Trackers are called in order, and none of them stops or holds up a run."""

import re
import sys
import threading
import warnings

import pytest
from helpers.tracked import COORDS, D_SAE, STEPS, files, measured, offline, run

from saejax.training.trackers import TensorBoard, Tracker, Tracking, WandB, as_trackers

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
