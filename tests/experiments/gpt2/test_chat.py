"""The GPT-2 command with labels of a chat model."""

import hashlib
import json

import numpy as np
import pytest
from helpers.chat_server import KEY, Server, answer, completion
from helpers.gpt2_study import TINY, TWO, found, reused, row_of, run
from helpers.viewer_boards import decoded

from saejax.core.files import read_rows
from saejax.results.workdir import read_run

# --------------------------------------------------------------------------------------- chat model


def said(request):
    """What the server says of a latent: of some of them that they have one theme."""
    shown = request["messages"][1]["content"]
    return "POLYSEMANTIC" if hashlib.sha256(shown.encode()).digest()[0] % 3 == 0 else "<b>cats</b>"


def well(handler, request):
    return completion(answer(said(request)))


@pytest.fixture
def of_chat(finished, on_gpt2, texts, monkeypatch):
    """Flags of a run with a chat model at a server, on the stages of others."""
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    stages = {name: finished / name for name in ("lm", "store")}
    stages["dictionaries"] = finished.parent / "two"

    def flags(server):
        chat = [
            "--chat_model=some/model",
            f"--chat_url={server.url}",
            "--chat_key_variable=TEST_KEY",
        ]
        own = [*TINY, *TWO, f"--folder={texts}", "--viewer=all", *chat]
        return [*own, *reused(finished, dictionaries=stages["dictionaries"])]

    return flags


def test_a_chat_model_labels_too_and_a_rerun_asks_nothing_again(of_chat, tmp_path):
    path, again = tmp_path / "run", tmp_path / "again"
    with Server(well) as server:
        run(*of_chat(server), f"--workdir={path}")
        asked = len(server.requests)
        run(*of_chat(server), f"--workdir={again}", f"--chat_cache={path / 'label-cache'}")
        assert len(server.requests) == asked
        assert {h["Authorization"] for h in server.headers} == {f"Bearer {KEY}"}
    assert asked == len(list((path / "label-cache").iterdir()))
    assert found(again) == found(path)
    labels = read_rows(path / "analysis" / "labels.jsonl")
    assert len(labels) == 24
    assert 0 < asked <= 12
    for way in ("off", "on"):
        pair = [
            [
                row["label"] != "POLYSEMANTIC"
                for row in labels
                if (row["labeller"], row["resample"]) == (name, way)
            ]
            for name in ("offline", "some/model")
        ]
        row = row_of(path, "agreement", resample=way)
        assert row["labellers"] == "offline, some/model"
        assert row["judged"] == len(pair[0]) == len(pair[1])
        assert row["same"] == pytest.approx(np.mean(np.equal(*pair)))
        assert [row["rate_lowest"], row["rate_highest"]] == sorted(np.mean(pair, 1))
        rate = row_of(path, "rates", resample=way, labeller="some/model")
        assert rate["rate"] == np.mean(pair[1])
    page = (path / "report.html").read_text()
    assert "How far the two labellers agree" in page
    assert "<td>&lt;b&gt;cats&lt;/b&gt;</td>" in page
    assert "<b>cats" not in page
    tables = {p.stem for p in (path / "tables").iterdir()}
    assert tables >= {"agreement", "monosemantic_offline", "monosemantic_some-model"}
    # The viewer shows the labels of the last.
    meta = decoded(path / "viewer" / "2x_l1-0.01_on_seed-0.html")["meta"]
    shown = json.loads(meta)["labels"]
    own = {
        (r["latent"], r["label"])
        for r in labels
        if r["labeller"] != "offline" and r["resample"] == "on"
    }
    assert {(at, text or "POLYSEMANTIC") for at, text, _ in shown} == own
    assert {labeller for _, _, labeller in shown} == {"some/model"}
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(files) > 30
    assert not [p for p in files if KEY.encode() in p.read_bytes()]


def test_a_server_that_fails_ends_the_command_and_it_goes_on_from_the_answers(
    of_chat, tmp_path, capsys
):
    path = tmp_path / "run"
    refused = (401, {}, json.dumps({"error": {"message": f"bad key {KEY}"}}))
    with Server(well, well, refused) as server:
        arguments = [*of_chat(server), f"--workdir={path}"]
        with pytest.raises(
            SystemExit, match=r"^error: chat_model: .*status 401.*labels of \d of \d"
        ) as end:
            run(*arguments)
        assert "\n" not in str(end.value)
        assert KEY not in str(end.value) + "".join(capsys.readouterr())
        kept = len(list((path / "label-cache").iterdir()))
        assert kept == 2
        assert not read_run(path)["finished"]
        server.script = [well]
        # As many as are allowed for may change from one attempt to the next.
        with pytest.raises(
            SystemExit, match=r"^error: chat_max_requests: got 1 requests sent, allow"
        ):
            run(*arguments, "--chat_max_requests=1")
        assert len(list((path / "label-cache").iterdir())) == 3
        assert "--chat_max_requests=1\n" in (path / "config.flags").read_text()
        before = len(server.requests)
        run(*arguments)
        assert len(server.requests) - before == len(list((path / "label-cache").iterdir())) - 3
    assert read_run(path)["finished"]
    labels = [r for r in read_rows(path / "analysis/labels.jsonl") if r["labeller"] == "some/model"]
    assert len(labels) == 12
