"""What the tests of the chat labeller share."""

import pytest
from helpers.chat_server import KEY

from saejax.interpret.chat import ChatLabeller, ChatSettings
from saejax.interpret.endpoint import Endpoint


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    # What stands in the way of real networks has no say here.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")


@pytest.fixture
def slept():
    return []


@pytest.fixture
def labeller(tmp_path, slept):
    def make(server, timeout=5.0, max_retries=3, max_wait=60.0, jitter=0.0, **kind):
        return ChatLabeller(
            Endpoint(server.url, "TEST_KEY", timeout, max_retries, max_wait),
            ChatSettings(**{"model": "m", "concurrency": 1, **kind}),
            tmp_path / "cache",
            pause=lambda seconds, stop: slept.append(seconds),
            jitter=lambda: jitter,
        )

    return make
