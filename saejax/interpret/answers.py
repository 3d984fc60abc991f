"""A cache of a model's answers in a folder, so that no request is paid for twice."""

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
    """A folder with one JSON file for each answered request, named by the request's SHA-256.

    A request is what was sent without address and key, so an answer is found again when the same
    model has another address. A file holds request and answer and is whole or absent; several
    processes may share a folder.

    Args:
        folder: made where it is absent.

    Raises:
        ValueError: for a path that is no folder, or where nothing may be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Find out now whether it can be written to, not after the first paid answer.
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise ValueError(
                f"cache: got {str(folder)!r} ({error.strerror}), allowed: a folder to write in"
            ) from error

    def path(self, request: dict[str, Any]) -> Path:
        """The file of a request's answer."""
        text = json.dumps(request, sort_keys=True, separators=(",", ":"))
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def find(self, request: dict[str, Any], check: Callable[[str], object]) -> str | None:
        """The answer to a request, None where there is none or its file is damaged (a warning).

        Args:
            request: as it was kept.
            check: raises ValueError for an answer that cannot be used.
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
        """Writes the answer to a request; OSError where the disk does not take it."""
        text = json.dumps({"request": request, "answer": answer}, indent=1)
        # Several threads and processes may write one answer: each has a temporary file of its own.
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
