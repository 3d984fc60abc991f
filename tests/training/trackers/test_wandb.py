"""What Weights & Biases gets of a run."""

import json
import time

import pytest
from helpers.tracked import ABOUT, CELLS, OTHER, STEPS, expected, offline, run

from saejax.training.trackers import WandB, as_trackers
from saejax.training.trackers import wandb as of_wandb
from saejax.training.trackers.interface import fingerprint


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
