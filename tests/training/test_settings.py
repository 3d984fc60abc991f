"""Settings refuse what cannot work, and say which argument, which value and what is allowed."""

from dataclasses import FrozenInstanceError, replace

import pytest

from saejax import Resample, SAEConfig, Settings

pytestmark = pytest.mark.usefixtures("unchecked")

BAD = [
    ({"steps": 0}, "steps", "0", "1 or more"),
    ({"steps": -1000}, "steps", "-1000", "1 or more"),
    ({"steps": 1500.5}, "steps", "1500.5", "whole number"),
    ({"batch_size": 0}, "batch_size", "0", "1 or more"),
    ({"batch_size": 2.5}, "batch_size", "2.5", "whole number"),
    ({"eval_every": 0}, "eval_every", "0", "1 or more"),
    ({"eval_batches": -1}, "eval_batches", "-1", "1 or more"),
    ({"steps": 10, "eval_every": 4}, "steps", "10", "a multiple of eval_every=4"),
    ({"steps": 4, "eval_every": 10}, "steps", "4", "a multiple of eval_every=10"),
    (
        {"eval_every": 6, "steps": 6, "snapshot_every": 4},
        "snapshot_every",
        "4",
        "divisor of eval_every=6",
    ),
    (
        {"eval_every": 6, "steps": 6, "snapshot_every": 12},
        "snapshot_every",
        "12",
        "0, or a divisor",
    ),
    ({"snapshot_every": -1}, "snapshot_every", "-1", "0 (never) or more"),
    ({"snapshot_every": 2.5}, "snapshot_every", "2.5", "whole number"),
    ({"snapshot_every": 2.0}, "snapshot_every", "2.0", "whole number"),
    ({"snapshot_every": True}, "snapshot_every", "True", "whole number"),
    ({"matmul_precision": "fp8"}, "matmul_precision", "'fp8'", "highest, tf32, bf16"),
    ({"cell_batch": 0}, "cell_batch", "0", "1 or more"),
    ({"dead_threshold": -0.1}, "dead_threshold", "-0.1", "0 or more"),
    ({"dead_threshold": float("nan")}, "dead_threshold", "nan", "0 or more"),
    ({"steps": float("nan")}, "steps", "nan", "whole number"),
    ({"steps": "many"}, "steps", "'many'", "whole number"),
    ({"steps": 2000.0}, "steps", "2000.0", "whole number"),
    ({"cell_batch": 1.5}, "cell_batch", "1.5", "whole number"),
    ({"track_threshold": 1.5}, "track_threshold", "1.5", "above 0, up to 1"),
    ({"track_threshold": 0.0}, "track_threshold", "0.0", "above 0, up to 1"),
    ({"track_threshold": float("nan")}, "track_threshold", "nan", "above 0, up to 1"),
]
BAD_RESAMPLE = [
    ({"every": -1}, "resample_every", "-1", "0 (never) or more"),
    ({"every": 4, "window": 5}, "window", "5", "1 to resample_every=4"),
    ({"every": 4, "window": 0}, "window", "0", "1 to resample_every=4"),
    ({"threshold": -1.0}, "threshold", "-1.0", "0 or more"),
    ({"ghost_after": -1}, "ghost_after", "-1", "0 (never) or more"),
    ({"ghost_after": 2.0}, "ghost_after", "2.0", "a whole number"),
    ({"threshold": float("nan")}, "threshold", "nan", "0 or more"),
]


def check_message(message: str, name: str, value: str, allowed: str) -> None:
    subject, rest = message.split(": got ", 1)
    got, permitted = rest.split("allowed: ", 1)
    assert name in subject
    assert got.startswith(value)
    assert allowed in permitted


@pytest.mark.parametrize(("kwargs", "name", "value", "allowed"), BAD, ids=lambda v: str(v)[:40])
def test_error_names_argument_value_and_allowed(kwargs, name, value, allowed):
    with pytest.raises(ValueError, match=name) as error:
        Settings(**kwargs)
    check_message(str(error.value), name, value, allowed)


@pytest.mark.parametrize(
    ("kwargs", "name", "value", "allowed"), BAD_RESAMPLE, ids=lambda v: str(v)[:40]
)
def test_error_of_resample_names_argument_value_and_allowed(kwargs, name, value, allowed):
    with pytest.raises(ValueError, match=name) as error:
        Resample(**kwargs)
    check_message(str(error.value), name, value, allowed)


def test_error_of_sae_config_names_argument_value_and_allowed():
    with pytest.raises(ValueError, match="l1_reduction") as error:
        SAEConfig(l1_reduction="median")  # pyright: ignore[reportArgumentType]
    check_message(str(error.value), "l1_reduction", "'median'", "mean, sum")


def test_defaults_are_the_published_values():
    settings = Settings()
    assert (settings.steps, settings.batch_size, settings.eval_batches) == (30_000, 4096, 10)
    assert settings.sae == SAEConfig("mean", use_b_dec=False, unit_norm=True)
    assert settings.resample.every == settings.resample.ghost_after == settings.snapshot_every == 0
    assert (settings.dead_threshold, settings.track_threshold) == (0.0, 0.9)
    assert settings.matmul_precision == "highest"


def test_window_is_free_where_nothing_is_resampled():
    assert Resample(every=0, window=10).window == 10


def test_window_is_ten_steps_or_as_many_as_there_are():
    assert [Resample(every=n).window_steps for n in (1, 5, 10, 5000)] == [1, 5, 10, 10]
    assert replace(Resample(every=5), every=20).window_steps == 10
    assert Resample(every=20, window=3).window_steps == 3


def test_silence_is_watched_where_latents_are_resampled_or_get_ghost_gradients():
    assert not Resample().watches
    assert Resample(every=3).watches
    assert Resample(ghost_after=3).watches


def test_limits_are_allowed():
    Settings(steps=1, batch_size=1, eval_every=1, eval_batches=1, cell_batch=1)
    for every in (0, 1, 2, 3, 6):
        assert Settings(steps=6, eval_every=6, snapshot_every=every).snapshot_every == every
    Settings(track_threshold=1e-6)
    Settings(track_threshold=1.0)
    Resample(every=4, window=4)
    Resample(every=4, window=1)
    Resample(ghost_after=1)


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Settings().steps = 3  # pyright: ignore[reportAttributeAccessIssue]
