"""Budgets, order and settings of the chat labeller."""

import json
import threading
import time

import pytest
from helpers.chat_server import KEY, Server, answer, completion
from helpers.labelled import kept, latent

from saejax.interpret.budget import Budget, BudgetError
from saejax.interpret.chat import ChatSettings
from saejax.interpret.endpoint import ChatError, Endpoint, used_tokens
from saejax.interpret.evidence import Evidence
from saejax.interpret.labeller import Labeller

# --- the budget ----------------------------------------------------------------------------------


def test_the_budget_of_requests_stops_in_time_and_keeps_what_was_paid(labeller, tmp_path):
    with Server(completion(answer())) as server:
        latents = [latent(i) for i in range(9)]
        with pytest.raises(
            BudgetError, match="max_requests: got 4 requests sent, allowed: 4; labels of 4 of"
        ):
            labeller(server, max_requests=4).label(latents)
        assert len(server.requests) == 4
        assert len(kept(tmp_path)) == 4
        assert len(labeller(server, max_requests=5).label(latents)) == 9
        assert len(server.requests) == 9


def test_attempts_that_fail_count_as_requests(labeller):
    with Server((500, {}, "")) as server:
        with pytest.raises(BudgetError, match="max_requests: got 2"):
            labeller(server, max_requests=2).label([latent(3)])
        assert len(server.requests) == 2


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_budget_of_tokens_is_never_exceeded(labeller, tmp_path, concurrency):
    with Server(completion(answer(), tokens=1200)) as server:
        one = labeller(server, max_tokens=10_000, concurrency=concurrency)
        with pytest.raises(
            BudgetError, match="max_tokens: got 9600 tokens spent and a request that can"
        ):
            one.label([latent(i) for i in range(20)])
        assert one.spent == (8, 9600)
        assert len(kept(tmp_path)) == 8


def test_an_answer_without_usage_counts_as_the_most_it_can_take(labeller):
    body = completion(answer())
    del body["usage"]
    with Server(body) as server:
        one = labeller(server)
        one.label([latent(3)])
        assert one.spent.tokens == len(json.dumps(server.requests[0])) + 64


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"total_tokens": 7}, 7),
        ({"total_tokens": True}, None),
        ({"total_tokens": -1}, None),
        ({}, None),
        ({"total_tokens": "7"}, None),
        (None, None),
        ([], None),
    ],
)
def test_usage_is_read_or_unknown(usage, expected):
    assert used_tokens(json.dumps({"usage": usage}).encode()) == expected


def test_what_was_held_and_not_used_can_be_spent():
    budget = Budget(10, 100)
    budget.reserve(60)
    waited = threading.Thread(target=budget.reserve, args=(60,))
    waited.start()
    waited.join(0.05)
    assert waited.is_alive()
    budget.settle(60, 30)
    waited.join(5)
    assert not waited.is_alive()
    assert budget.spent == (2, 30)
    budget.give_back(60)
    assert budget.spent == (1, 30)
    with pytest.raises(
        BudgetError, match="max_tokens: got 30 tokens spent and a request that can take 71"
    ):
        budget.reserve(71)


# --- several at a time ---------------------------------------------------------------------------


def test_no_more_requests_are_under_way_than_allowed(labeller):
    def slow(handler, request):
        time.sleep(0.05)
        return completion(answer())

    with Server(slow) as server:
        labeller(server, concurrency=3).label([latent(i) for i in range(12)])
        assert server.most == 3


def test_labels_come_in_the_order_of_the_latents(labeller):
    def echo(handler, request):
        number = json.loads(request["messages"][1]["content"])[1]["before"]
        time.sleep(0.05 if number == "of 0" else 0)
        return completion(answer(number))

    with Server(echo) as server:
        got = labeller(server, concurrency=4).label([latent(i) for i in range(8)])
    assert [one.text for one in got] == [f"of {i}" for i in range(8)]


def test_what_is_under_way_when_another_fails_is_kept_and_nothing_more_is_sent(labeller, tmp_path):
    refused = threading.Event()

    def first(handler, request):
        refused.wait(5)
        time.sleep(0.05)
        return completion(answer())

    def second(handler, request):
        refused.set()
        return 400, {}, "{}"

    with Server(first, second, completion(answer())) as server:
        with pytest.raises(ChatError, match=r"status 400.*; labels of 1 of 9 latents are kept in"):
            labeller(server, concurrency=2).label([latent(i) for i in range(9)])
        assert len(server.requests) == 2
    assert len(kept(tmp_path)) == 1


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/v1", "where the key would be readable on the way, allowed: https"),
        ("http://127.0.0.1.example.org/v1", "readable on the way"),
        ("http://localhost.example.org", "readable on the way"),
        ("http://10.0.0.1/v1", "readable on the way"),
        ("https://user:pass@example.org/v1", "base_url: got an address with a user in it"),
        ("ftp://example.org", "base_url: got 'ftp://example.org', allowed: https://host/path"),
        ("example.org/v1", "base_url: got"),
        ("https://", "base_url: got"),
        ("", "base_url: got"),
        ("https://example.org/v1?key=1", "base_url: got"),
        ("https://example.org/#a", "base_url: got"),
        ("https://example.org:port", "base_url: got"),
        ("https://exam ple.org", "base_url: got"),
        ("https://example.org/\n", "base_url: got"),
        ("https://[::1", "base_url: got"),
    ],
)
def test_an_address_that_is_none_or_not_safe_is_refused(url, message):
    with pytest.raises(ValueError, match=message) as caught:
        Endpoint(url, "TEST_KEY")
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/v1/",
        "http://localhost:8000",
        "http://127.0.0.1:1/v1",
        "http://[::1]:80/v1",
    ],
)
def test_an_address_that_is_safe_is_taken(url):
    assert Endpoint(url, "TEST_KEY").base_url == url.rstrip("/")


def test_plain_http_is_fine_where_no_key_travels():
    assert Endpoint("http://10.0.0.1/v1", None).key() is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "which is not set"),
        ("", "which is not set"),
        ("sk-a\n", "white space"),
        ("sk-é", "white space"),
    ],
)
def test_a_key_that_is_none_is_refused_without_showing_it(monkeypatch, value, message):
    monkeypatch.delenv("TEST_KEY")
    if value is not None:
        monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(
        ValueError, match=f"key_variable: got 'TEST_KEY', which .*, allowed|{message}"
    ) as caught:
        Endpoint(key_variable="TEST_KEY")
    assert message in str(caught.value)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("timeout", 0.0), ("max_wait", -1.0), ("max_retries", -1)]
)
def test_patience_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: got {value}, allowed: "):
        Endpoint(key_variable=None, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ""),
        ("model", "a\nb"),
        ("contexts", 0),
        ("temperature", 2.5),
        ("temperature", -0.1),
        ("answer_tokens", 0),
        ("limit", "most"),
        ("max_answers", 0),
        ("concurrency", 0),
        ("concurrency", 65),
        ("max_requests", -1),
        ("max_tokens", -1),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: got .*, allowed: "):
        ChatSettings(**{"model": "m", name: value})


def test_evidence_without_contexts_is_refused_before_anything_is_sent(labeller):
    with Server(completion(answer())) as server:
        with pytest.raises(ValueError, match="evidence: got no contexts of latent 4"):
            labeller(server).label([latent(3), Evidence(4, ())])
        assert server.requests == []


def test_the_chat_labeller_is_a_labeller_that_can_be_written_down(labeller):
    with Server(completion(answer())) as server:
        one = labeller(server)
        assert isinstance(one, Labeller)
        described = json.loads(json.dumps(one.describe()))
        assert described["model"] == "m"
        assert described["key_variable"] == "TEST_KEY"
        assert KEY not in json.dumps(described)
