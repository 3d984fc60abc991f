"""What the tests of trackers share."""

import socket

import pytest


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
