"""What asking a model may cost: requests and tokens, counted before they are spent."""

import threading
from typing import NamedTuple

from saejax.core.checks import check_whole


class BudgetError(RuntimeError):
    """The next request could cost more than is allowed."""


class Spent(NamedTuple):
    """What was spent.

    Attributes:
        requests: sent, with those that failed.
        tokens: of prompts and answers.
    """

    requests: int
    tokens: int


class Budget:
    """Requests and tokens that several threads may spend together.

    A request holds as many tokens as it can take at most until it is known what it took, so that
    the limit holds whatever the order in which answers come.

    Args:
        max_requests: to send, counting those that fail.
        max_tokens: of prompts and answers.

    Raises:
        ValueError: naming the argument, the value got and what is allowed.
    """

    def __init__(self, max_requests: int, max_tokens: int) -> None:
        allowed = "a whole number, 0 or more"
        self._max_requests = check_whole("max_requests", max_requests, allowed, lambda v: v >= 0)
        self._max_tokens = check_whole("max_tokens", max_tokens, allowed, lambda v: v >= 0)
        self._requests, self._tokens, self._held = 0, 0, 0
        self._settled = threading.Condition()

    @property
    def spent(self) -> Spent:
        """What was spent so far."""
        with self._settled:
            return Spent(self._requests, self._tokens)

    def reserve(self, tokens: int) -> None:
        """Take a request with this many tokens out of the budget; waits while others may return
        some.

        Args:
            tokens: that the request can take at most.

        Raises:
            BudgetError: where it is not left.
        """
        with self._settled:
            while self._requests < self._max_requests and self._held:
                if self._tokens + self._held + tokens <= self._max_tokens:
                    break
                self._settled.wait()
            if self._requests >= self._max_requests:
                raise BudgetError(
                    f"max_requests: got {self._requests} requests sent, allowed: "
                    f"{self._max_requests}"
                )
            if self._tokens + self._held + tokens > self._max_tokens:
                raise BudgetError(
                    f"max_tokens: got {self._tokens} tokens spent and a request that can take "
                    f"{tokens}, allowed: {self._max_tokens} together"
                )
            self._requests += 1
            self._held += tokens

    def settle(self, reserved: int, used: int) -> None:
        """Say what a request took of the tokens that were reserved for it."""
        with self._settled:
            self._held -= reserved
            self._tokens += used
            self._settled.notify_all()

    def give_back(self, reserved: int) -> None:
        """Return a request that was reserved and not sent."""
        with self._settled:
            self._requests -= 1
            self._held -= reserved
            self._settled.notify_all()
