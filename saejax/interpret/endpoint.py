"""Requests to a chat-completions endpoint: what is sent again, and what is given up."""

import http.client
import ipaddress
import json
import os
import random
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from saejax.core.checks import check_number_fields, check_whole
from saejax.interpret.budget import Budget

# Overload and faults of the server or of what stands in front of it; 529 is some servers' overload.
RETRIED = {408, 429, 500, 502, 503, 504, 529}
HINTS = {
    400: "the server does not take the request; look at model and at the parameters sent",
    401: "the key is not accepted",
    403: "the key may not be used for this",
    404: "base_url or model is unknown there",
}
# An answer has a few words; whatever is longer than this is not one.
MOST_BYTES = 2**20
FIRST_WAIT = 1.0
# Raised while something is looked up in a body that is not JSON, or JSON of another form.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, RecursionError)


class ChatError(RuntimeError):
    """An endpoint did not do what it was asked, and asking again will not help."""


class Stopped(Exception):
    """A request was not sent, because its answer is no longer wanted."""


@dataclass(frozen=True)
class Endpoint:
    """A server that answers POST {base_url}/chat/completions, and how patient to be with it.

    Args:
        base_url: as the server's documentation has it, mostly ending in /v1. Plain http only for
            this machine, or without a key.
        key_variable: environment variable that holds the key, sent as `Authorization: Bearer`; None
            for a server that wants none. The key itself is kept nowhere.
        timeout: seconds without an answer after which a request is given up.
        max_retries: how often a request that failed for a passing reason is sent again.
        max_wait: seconds, the longest wait before a request is sent again; a server that asks for
            more is given up.

    Raises:
        ValueError: naming the argument, the value got and what is allowed; also where the variable
            is not set, without saying what is in it.
    """

    base_url: str = "https://api.openai.com/v1"
    key_variable: str | None = "OPENAI_API_KEY"
    timeout: float = 60.0
    max_retries: int = 5
    max_wait: float = 60.0

    def __post_init__(self) -> None:
        seconds = "above 0 (seconds)", lambda v: v > 0
        check_number_fields(self, (("timeout", *seconds), ("max_wait", *seconds)))
        allowed = "a whole number, 0 or more"
        retries = check_whole("max_retries", self.max_retries, allowed, lambda v: v >= 0)
        object.__setattr__(self, "max_retries", retries)
        _check_url(self.base_url, self.key_variable is None)
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        self.key()

    def key(self) -> str | None:
        """The key, read anew from the environment; ValueError where the variable holds none."""
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "")
        if not key:
            raise ValueError(
                f"key_variable: got {self.key_variable!r}, which is not set, allowed: the name of "
                "an environment variable that holds a key; None for a server that wants none"
            )
        if not all("!" <= c <= "~" for c in key):
            raise ValueError(
                f"key_variable: got {self.key_variable!r}, which holds white space or characters "
                "outside ASCII, allowed: a key without"
            )
        return key


def _check_url(base_url: str, without_key: bool) -> None:
    allowed = "https://host/path without user, query and fragment"
    text = base_url if isinstance(base_url, str) else ""
    if "@" in text:
        # What stands before the @ may be a password.
        raise ValueError(f"base_url: got an address with a user in it, allowed: {allowed}")
    plain = text.isascii() and text.isprintable() and " " not in text
    try:
        parts = urlsplit(text if plain else "")
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    usable = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not usable or parts.query or parts.fragment:
        raise ValueError(f"base_url: got {base_url!r}, allowed: {allowed}")
    if parts.scheme == "http" and not (without_key or _is_this_machine(base_url)):
        raise ValueError(
            f"base_url: got {base_url!r}, where the key would be readable on the way, allowed: "
            "https; http for this machine, or with key_variable=None"
        )


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Passing(Exception):
    """A request failed for a reason that may pass, in words without the key.

    `wait` are the seconds that the server asks to wait; where it `answered`, nothing was spent.
    """

    def __init__(self, reason: str, wait: float | None = None, answered: bool = False) -> None:
        self.reason, self.wait, self.answered = reason, wait, answered


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    # The key would go along to wherever the server points.
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def pause_unless(seconds: float, stop: threading.Event) -> None:
    """Waits some seconds, or until `stop` is set."""
    stop.wait(seconds)


class Client:
    """Sends requests to an endpoint; several threads may use one client.

    Args:
        endpoint: where to.
        budget: every attempt counts.
        pause: waits between attempts, as `pause_unless`.
        jitter: a random number from 0 to 1, which spreads the attempts of several clients.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        budget: Budget,
        pause: Callable[[float, threading.Event], None] = pause_unless,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._endpoint, self._budget, self._pause, self._jitter = endpoint, budget, pause, jitter
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if _is_this_machine(endpoint.base_url):
            # A proxy would read what is meant for this machine.
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, request: dict[str, Any], most_tokens: int, stop: threading.Event) -> bytes:
        """The body of the server's answer to a request, sent again as long as that may help.

        The n-th wait is 2^(n-1) seconds less up to a half of it at random, or what the server asks
        for where that is longer.

        Args:
            request: what to send, as JSON.
            most_tokens: that it can take with its answer.
            stop: set where the answer is no longer wanted; nothing further is sent then.

        Raises:
            ChatError: where the server refuses, or does not answer in `max_retries + 1` attempts.
                The message never contains the key.
            BudgetError, Stopped: before an attempt that exceeds the budget, or is not wanted.
        """
        attempts = self._endpoint.max_retries + 1
        for attempt in range(attempts):
            self._budget.reserve(most_tokens)
            # Another thread may have failed while this one waited for its reserved tokens.
            if stop.is_set():
                self._budget.give_back(most_tokens)
                raise Stopped
            used: int | None = 0
            try:
                body = self._send(request)
                used = used_tokens(body)
                return body
            except _Passing as error:
                used = 0 if error.answered else None
                failure = error
            finally:
                # Where it is not known what was paid for, all of it counts.
                self._budget.settle(most_tokens, most_tokens if used is None else used)
            if attempt + 1 < attempts:
                self._pause(self._wait(attempt, failure), stop)
        raise ChatError(
            f"{self._endpoint.base_url}: no answer in {attempts} attempts; the last: "
            f"{failure.reason}"
        )

    def _wait(self, attempt: int, failure: _Passing) -> float:
        longest, asked = self._endpoint.max_wait, failure.wait or 0.0
        if asked > longest:
            raise ChatError(
                f"{self._endpoint.base_url}: {failure.reason}; it asks to wait {asked:.0f} s, "
                f"allowed: up to max_wait={longest:g}"
            )
        return max(asked, min(FIRST_WAIT * 2**attempt, longest) * (1 - self._jitter() / 2))

    def _send(self, request: dict[str, Any]) -> bytes:
        url, timeout, key = self._endpoint.base_url, self._endpoint.timeout, self._endpoint.key()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        body = json.dumps(request).encode()
        post = urllib.request.Request(f"{url}/chat/completions", body, headers, method="POST")
        try:
            with self._opener.open(post, timeout=timeout) as response:
                return _read(response, time.monotonic() + timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error, key) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise ChatError(f"{url}: its certificate is not accepted") from None
            slow = isinstance(reason, TimeoutError)
            what = f"no answer within {timeout:g} s" if slow else f"no connection ({reason})"
            raise _Passing(_without(key, what)) from None

    def _refusal(self, error: urllib.error.HTTPError, key: str | None) -> ChatError | _Passing:
        status, url = error.code, self._endpoint.base_url
        if 300 <= status < 400:
            return ChatError(
                f"{url}: points to another address (status {status}), which is not followed, so "
                "that the key stays here; allowed: a base_url that answers itself"
            )
        kind, said = _message(error, time.monotonic() + self._endpoint.timeout)
        # A server that refuses a key may repeat parts of it. Anywhere else it may stand whole, so
        # it is taken out before a cut could hide it.
        said = "" if status in (401, 403) else _without(key, said)[:300]
        reason = f"status {status}" + (f", {said!r}" if said else "")
        # The same status as for too many requests, but no wait brings money.
        if status in RETRIED and kind != "insufficient_quota":
            return _Passing(reason, retry_after(error.headers.get("Retry-After")), answered=True)
        hint = f"; {HINTS[status]}" if status in HINTS else ""
        return ChatError(f"{url}: {reason}{hint}")


def _without(key: str | None, text: str) -> str:
    return text.replace(key, "[key]") if key else text


def _read(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """A whole body, unless it takes too long, is too long, or ends before it should."""
    parts, size = [], 0
    while part := response.read1(2**16):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise _Passing(f"an answer of more than {MOST_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:
        raise _Passing(f"an answer that lacks its last {response.length} bytes")
    return b"".join(parts)


def _message(error: urllib.error.HTTPError, deadline: float) -> tuple[str, str]:
    """Type and words of what a server says of a refusal, each empty where it says none."""
    try:
        body = _read(error.fp, deadline) if isinstance(error.fp, http.client.HTTPResponse) else b""
        said = json.loads(body)["error"]
        return str(said.get("type", "")), " ".join(str(said.get("message", "")).split())
    except (_Passing, OSError, http.client.HTTPException, *UNREADABLE):
        return "", ""


def retry_after(header: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a Retry-After header, a number or a date, asks to wait.

    None without a header that can be read. `now` is in seconds since the epoch.

    Source: RFC 9110, section 10.2.3.
    """
    text = "" if header is None else header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now())
    except ValueError:
        return None


def used_tokens(body: bytes) -> int | None:
    """Tokens that an answer took by its `usage`, None where it does not say."""
    try:
        total = json.loads(body)["usage"]["total_tokens"]
    except UNREADABLE:
        return None
    whole = isinstance(total, int) and not isinstance(total, bool) and total >= 0
    return total if whole else None
