"""An export as a repository of the Hugging Face hub.

Nothing is overwritten or deleted there: what a repository holds already must be, byte for byte,
what the export holds, as an upload that was cut short leaves it.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saejax.export.card import CARD

# The hub puts it into every repository.
ATTRIBUTES = ".gitattributes"
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def upload(folder: str | Path, repo_id: str, private: bool = False, client: Any = None) -> str:
    """Uploads an export with its model card (README.md); returns the address of the repository.

    Say in the first lines of the card which license it has; the hub shows it.

    Args:
        folder: of `saejax.export.command.export`.
        repo_id: "owner/name"; made where it is absent.
        private: whether it is to be seen by its owner alone.
        client: a `huggingface_hub.HfApi`; None for one with `hf auth login`'s token or HF_TOKEN.

    Raises:
        ValueError: for a folder without a card, a name of another form, a repository that holds
            other files or is public against `private`.
        ImportError: without huggingface_hub.
        OSError: without a token, a network, or leave to write there.
    """
    check_repo_id(repo_id)
    path = Path(folder)
    if not (path / CARD).is_file():
        raise ValueError(f"folder: got {str(path)!r}, which holds no {CARD}, allowed: an export")
    api = _client() if client is None else client
    address = _ask(repo_id, lambda: api.create_repo(repo_id, private=private, exist_ok=True))
    about = _ask(repo_id, lambda: api.model_info(repo_id, files_metadata=True))
    if private and not about.private:
        raise ValueError(
            f"private: got True, but {repo_id} is public, allowed: a new or private one"
        )
    for file in about.siblings or []:
        if file.rfilename != ATTRIBUTES and not _holds(path / file.rfilename, file):
            raise ValueError(
                f"repo_id: got {repo_id!r}, which holds another {file.rfilename}, allowed: a new "
                "or empty repository, or one with parts of this export (nothing is overwritten "
                "there)"
            )
    commit: dict[str, Any] = {"commit_message": "Add sparse autoencoders"}
    commit["ignore_patterns"] = [".*"]  # what other programs keep there
    _ask(repo_id, lambda: api.upload_folder(repo_id=repo_id, folder_path=path, **commit))
    return str(address)


def check_repo_id(repo_id: str) -> None:
    """Refuses what can be no name of a repository, by a ValueError."""
    if not REPO_ID.fullmatch(repo_id):
        raise ValueError(f"repo_id: got {repo_id!r}, allowed: OWNER/NAME")


def _client() -> Any:
    """A client of the hub; errors say what is missing for one."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError('uploads need huggingface_hub: pip install "saejax[interop]"') from error
    if huggingface_hub.get_token() is None:
        raise PermissionError("token: got none, allowed: one from `hf auth login` or in HF_TOKEN")
    return huggingface_hub.HfApi()


def _ask(repo_id: str, question: Callable[[], Any]) -> Any:
    """What the hub answers; an OSError of one line, whatever went wrong."""
    try:
        return question()
    # Which errors there are depends on the version of the client and of what it asks through.
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OSError(f"upload to {repo_id}: {type(error).__name__}: {first}") from error


def _holds(file: Path, remote: Any) -> bool:
    """Whether a file is the same as one of a repository, by its size and hash."""
    if not file.is_file() or file.stat().st_size != remote.size:
        return False
    data = file.read_bytes()
    if remote.lfs is not None:
        return hashlib.sha256(data).hexdigest() == remote.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == remote.blob_id
