"""What asking a model may cost: requests and tokens, counted before they are spent."""

import threading
from typing import NamedTuple

from saejax.core.checks import check_whole


class BudgetError(RuntimeError):
    """The next request could cost more than is allowed."""


class Spent(NamedTuple):
    """Requests sent, also those that failed, and tokens of prompts and answers."""

    requests: int
    tokens: int


class Budget:
    """Requests, those that fail too, and tokens that several threads may spend together.

    A request reserves the most tokens it can take until it is known what it took, so the limit
    holds in whatever order answers come.

    Raises:
        ValueError: for limits that are not whole numbers, 0 or more.
    """

    def __init__(self, max_requests: int, max_tokens: int) -> None:
        allowed = "a whole number, 0 or more"
        self._max_requests = check_whole("max_requests", max_requests, allowed, lambda v: v >= 0)
        self._max_tokens = check_whole("max_tokens", max_tokens, allowed, lambda v: v >= 0)
        self._requests, self._tokens, self._reserved = 0, 0, 0
        self._settled = threading.Condition()

    @property
    def spent(self) -> Spent:
        """Requests and tokens spent so far."""
        with self._settled:
            return Spent(self._requests, self._tokens)

    def _fits(self, tokens: int) -> bool:
        return self._tokens + self._reserved + tokens <= self._max_tokens

    def reserve(self, tokens: int) -> None:
        """Reserves one request of up to so many tokens; BudgetError where it does not fit.

        Waits as long as requests under way may return some tokens.
        """
        with self._settled:
            while self._requests < self._max_requests and self._reserved and not self._fits(tokens):
                self._settled.wait()
            if self._requests >= self._max_requests:
                raise BudgetError(
                    f"max_requests: got {self._requests} requests sent, allowed: "
                    f"{self._max_requests}"
                )
            if not self._fits(tokens):
                raise BudgetError(
                    f"max_tokens: got {self._tokens} tokens spent and a request that can take "
                    f"{tokens}, allowed: {self._max_tokens} together"
                )
            self._requests += 1
            self._reserved += tokens

    def settle(self, reserved: int, used: int) -> None:
        """Counts what a request really took of the tokens that were reserved for it."""
        with self._settled:
            self._reserved -= reserved
            self._tokens += used
            self._settled.notify_all()

    def give_back(self, reserved: int) -> None:
        """Returns a request that was reserved and not sent."""
        with self._settled:
            self._requests -= 1
            self._reserved -= reserved
            self._settled.notify_all()
