"""Answers that were paid for, kept in a folder: the same request is never paid twice."""

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Answers:
    """A folder with one JSON file for every request that was answered, named by its SHA-256.

    The request is what was sent but for the address and the key, so that an answer is found again
    behind another address of the same model. A file holds the request and the answer; it is whole
    or absent, and several processes may use one folder.

    Args:
        folder: made where it is absent.

    Raises:
        ValueError: for a path at which there is something else, or where nothing may be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Better now than after the first answer.
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise ValueError(
                f"cache: got {str(folder)!r} ({error.strerror}), allowed: a folder to write in"
            ) from error

    def path(self, request: dict[str, Any]) -> Path:
        """Where the answer to a request is kept."""
        text = json.dumps(request, sort_keys=True, separators=(",", ":"))
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def find(self, request: dict[str, Any], check: Callable[[str], object]) -> str | None:
        """The answer to a request, None where there is none.

        Args:
            request: as it was kept.
            check: raises ValueError for an answer that cannot be one.

        Warns:
            UserWarning: where the file is damaged; the answer counts as absent.
        """
        path = self.path(request)
        try:
            kept = json.loads(path.read_bytes())
            if not isinstance(kept, dict) or kept.get("request") != request:
                raise ValueError("not the request")
            answer = kept.get("answer")
            if not isinstance(answer, str):
                raise ValueError("no answer")
            check(answer)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            warnings.warn(f"{path}: is damaged; the model is asked again", stacklevel=2)
            return None
        return answer

    def keep(self, request: dict[str, Any], answer: str) -> None:
        """Write down the answer to a request.

        Raises:
            OSError: where the disk does not take it.
        """
        text = json.dumps({"request": request, "answer": answer}, indent=1)
        handle, part = tempfile.mkstemp(suffix=".part", dir=self.folder)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path(request))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise
