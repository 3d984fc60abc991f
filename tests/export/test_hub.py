"""Uploads, against a stand-in of the hub's client that keeps what it is given; no network."""

import hashlib
import inspect
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from saejax.export import hub

BIG = "cell/sae_weights.safetensors"
CARD = b"---\nlibrary_name: saelens\n---\n"


class Hub:
    """One repository of the hub, and every call that was made."""

    def __init__(self, files=None, private=False, fails=None):
        self.files = {".gitattributes": b"x", **(files or {})}
        self.private = private
        self.fails = fails
        self.calls = []

    def _called(self, name, *args, **kwargs):
        self.calls.append((name, args, kwargs))
        if self.fails and self.fails[0] == name:
            raise self.fails[1]

    def create_repo(self, *args, **kwargs):
        self._called("create_repo", *args, **kwargs)
        return f"https://hub/{args[0]}"

    def model_info(self, *args, **kwargs):
        self._called("model_info", *args, **kwargs)
        siblings = [self._sibling(name, data) for name, data in self.files.items()]
        return SimpleNamespace(private=self.private, siblings=siblings)

    def _sibling(self, name, data):
        sha256 = hashlib.sha256(data).hexdigest()
        lfs = SimpleNamespace(sha256=sha256, size=len(data)) if name.endswith("tensors") else None
        # As the hub has it, a large file's own id is that of a pointer to it.
        blob = b"pointer" if lfs else data
        blob_id = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()
        return SimpleNamespace(rfilename=name, size=len(data), blob_id=blob_id, lfs=lfs)

    def upload_folder(self, **kwargs):
        self._called("upload_folder", **kwargs)
        root = Path(kwargs["folder_path"])
        self.files |= {
            p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()
        }


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "export"
    (path / "cell").mkdir(parents=True)
    (path / "README.md").write_bytes(CARD)
    (path / BIG).write_bytes(b"weights")
    return path


def test_an_upload_makes_the_repository_and_fills_it(folder):
    client = Hub(private=True)
    assert hub.upload(folder, "me/saes", private=True, client=client) == "https://hub/me/saes"
    assert client.files == {".gitattributes": b"x", "README.md": CARD, BIG: b"weights"}
    name, args, kwargs = client.calls[0]
    assert (name, args, kwargs) == (
        "create_repo",
        ("me/saes",),
        {"private": True, "exist_ok": True},
    )


def test_an_upload_that_was_cut_short_goes_on(folder):
    client = Hub({BIG: b"weights"})
    hub.upload(folder, "me/saes", client=client)
    assert client.files["README.md"] == CARD
    again = Hub(client.files)
    hub.upload(folder, "me/saes", client=again)
    assert again.files == client.files


@pytest.mark.parametrize(
    "files",
    [
        {BIG: b"another"},
        {BIG: b"weights!"},
        {"README.md": CARD.upper()},
        {"cell/other": b"weights"},
    ],
)
def test_what_a_repository_holds_is_never_overwritten(files, folder):
    client = Hub(files)
    (name,) = files
    with pytest.raises(
        ValueError, match=f"repo_id: got 'me/saes', which holds another {name}, allowed"
    ):
        hub.upload(folder, "me/saes", client=client)
    assert [call[0] for call in client.calls] == ["create_repo", "model_info"]


def test_nothing_is_asked_to_be_deleted(folder):
    client = Hub()
    hub.upload(folder, "me/saes", client=client)
    assert [call[0] for call in client.calls] == ["create_repo", "model_info", "upload_folder"]
    assert "delete_patterns" not in client.calls[-1][2]


def test_private_weights_are_not_put_into_a_public_repository(folder):
    client = Hub(private=False)
    with pytest.raises(
        ValueError, match="private: got True, but me/saes is public, allowed: a new or"
    ):
        hub.upload(folder, "me/saes", private=True, client=client)
    assert "upload_folder" not in [call[0] for call in client.calls]


@pytest.mark.parametrize("name", ["saes", "me/saes/x", "me/", "/saes", "me/sa es", "../saes", ""])
def test_names_that_no_repository_can_have_are_refused_before_anything_is_asked(name, folder):
    client = Hub()
    with pytest.raises(ValueError, match=r"repo_id: got .*, allowed: OWNER/NAME"):
        hub.upload(folder, name, client=client)
    assert not client.calls


def test_a_folder_without_a_card_is_no_export(folder):
    (folder / "README.md").unlink()
    client = Hub()
    with pytest.raises(ValueError, match=r"export', which holds no README.md, allowed: an export"):
        hub.upload(folder, "me/saes", client=client)
    assert not client.calls


@pytest.mark.parametrize("call", ["create_repo", "model_info", "upload_folder"])
def test_whatever_the_client_raises_becomes_one_line(call, folder):
    client = Hub(fails=(call, RuntimeError("403 Forbidden\nsecond line")))
    with pytest.raises(OSError, match=r"^upload to me/saes: RuntimeError: 403 Forbidden$"):
        hub.upload(folder, "me/saes", client=client)


# ------------------------------------------------------------------------------- the client itself


@pytest.fixture
def real():
    return pytest.importorskip("huggingface_hub", reason="it is the client that is stood in for")


def test_the_stand_in_is_asked_as_the_client_can_be(real, folder):
    client = Hub()
    hub.upload(folder, "me/saes", client=client)
    for name, args, kwargs in client.calls:
        inspect.signature(getattr(real.HfApi, name)).bind(None, *args, **kwargs)
    file = real.hf_api.RepoSibling("name", size=1, blob_id="id", lfs=None)
    sibling = client._sibling("name", b"x")
    assert set(vars(sibling)) <= set(vars(file))
    assert "sha256" in inspect.signature(real.hf_api.BlobLfsInfo).parameters


def test_hashes_of_files_are_those_of_git(folder, tmp_path):
    done = subprocess.run(
        ["git", "hash-object", folder / "README.md"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("git is not installed")
    remote = SimpleNamespace(size=len(CARD), blob_id=done.stdout.strip(), lfs=None)
    assert hub._holds(folder / "README.md", remote)


def test_without_a_token_nothing_is_asked(real, folder, monkeypatch):
    monkeypatch.setattr(real, "get_token", lambda: None)
    monkeypatch.setattr(real, "HfApi", lambda: pytest.fail("a client was made"))
    with pytest.raises(
        PermissionError, match=r"token: got none, allowed: one from `hf auth login`"
    ):
        hub.upload(folder, "me/saes")


def test_the_token_of_the_machine_is_used(real, folder, monkeypatch):
    client = Hub()
    monkeypatch.setattr(real, "get_token", lambda: "hf_x")
    monkeypatch.setattr(real, "HfApi", lambda: client)
    hub.upload(folder, "me/saes")
    assert BIG in client.files


def test_without_a_network_the_real_client_ends_in_one_line(real, folder):
    # Nothing listens there.
    client = real.HfApi(endpoint="http://127.0.0.1:9", token="hf_x")
    with pytest.raises(OSError, match=r"^upload to me/saes: \w+: [^\n]+$"):
        hub.upload(folder, "me/saes", client=client)


def test_without_the_client_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(
        ImportError, match=r'uploads need huggingface_hub: pip install "saejax\[inter'
    ):
        hub.upload(folder, "me/saes")
