"""Answers of the chat labeller's model: garbage, damaged caches."""

import json
import warnings

import pytest
from helpers.chat_server import Server, answer, completion
from helpers.labelled import kept, latent

from saejax.interpret.answers import Answers
from saejax.interpret.chat import read_answer, read_label
from saejax.interpret.endpoint import ChatError

# --- garbage -------------------------------------------------------------------------------------

GARBAGE = [
    "cities",
    "",
    'Sure! {"label": "cities"}',
    '```json\n{"label": "cities"}\n```',
    '{"label": "cities"} I hope this helps.',
    '{"label": ""}',
    '{"label": "  "}',
    '{"label": null}',
    '{"label": ["cities"]}',
    '{"label": 3}',
    '{"label": "cities", "why": "many"}',
    '{"label": "a", "label": "b"}',
    '{"Label": "cities"}',
    '["cities"]',
    '"cities"',
    '{"label": "cities"',
    '{"label": "' + "x" * 101 + '"}',
    '{"label": "two\\nlines"}',
    '{"label": "\\ud800"}',
    '{"label": "\\u202e"}',
    '{"label": "polysemantic"}',
    '{"label": "POLYSEMANTIC."}',
    "[" * 100_000,
]


@pytest.mark.parametrize("content", GARBAGE)
def test_only_the_object_that_was_asked_for_is_a_label(content):
    with pytest.raises(ValueError, match=r"^(it|the label) "):
        read_label(content)


def test_what_is_a_label():
    assert read_label('{"label": "POLYSEMANTIC"}') is None
    assert read_label(' \n{ "label" : " the city "}\n') == "the city"
    assert read_label('{"label": "' + "x" * 100 + '"}') == "x" * 100
    assert read_label('{"label": "</script> \\u00e9"}') == "</script> é"


BODIES = [
    "not JSON",
    "[]",
    "{}",
    '{"choices": []}',
    '{"choices": {}}',
    '{"choices": [1]}',
    '{"choices": [{}]}',
    json.dumps(completion(None)),
    json.dumps(completion(answer(), finish_reason="length")),
    json.dumps(completion(answer(), finish_reason="content_filter")),
    '{"error": {"message": "busy"}}',
    "\xff",
    "[" * 100_000,
]


@pytest.mark.parametrize("body", BODIES)
def test_only_a_finished_completion_is_an_answer(body):
    with pytest.raises(ValueError, match=r"^it "):
        read_answer(body.encode("latin-1"))


def test_garbage_is_asked_again_with_the_reason_and_kept_nowhere(labeller, tmp_path):
    script = ["not JSON", completion("Sure! cities"), completion(answer("cities"), tokens=7)]
    with Server(*script) as server:
        one = labeller(server)
        assert one.label([latent(3)])[0].text == "cities"
        assert one.spent.requests == 3
        first, second, third = (request["messages"][1]["content"] for request in server.requests)
        assert second.startswith(first)
        assert "it is not a chat completion" in second
        assert "it is not a JSON object alone" in third
        assert "Sure" not in third
        # Found under the question itself, without what was added to it.
        assert labeller(server).label([latent(3)])[0].text == "cities"
        assert len(server.requests) == 3
    assert len(kept(tmp_path)) == 1


def test_garbage_without_end_is_an_error_that_names_the_latent(labeller, tmp_path):
    with Server(completion("cities")) as server:
        with pytest.raises(
            ChatError, match="latent 37: got no answer of m that can be used in 3 attempts"
        ):
            labeller(server).label([latent(37)])
        assert len(server.requests) == 3
    assert kept(tmp_path) == []


# --- the cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"answer": 1}', "cut", "other", "label", "\xff", "deep"]
)
def test_a_damaged_file_is_asked_again_and_mended(labeller, tmp_path, damage):
    with Server(completion(answer())) as server:
        labeller(server).label([latent(3)])
        (path,) = kept(tmp_path)
        whole = path.read_text()
        text = {
            "cut": whole[:-20],
            "other": whole.replace("of 3", "of 5"),
            "label": whole.replace("the city", "x" * 100),
            "deep": "[" * 100_000,
        }.get(damage, damage)
        path.write_bytes(text.encode("latin-1"))
        with pytest.warns(UserWarning, match="is damaged; the model is asked again"):
            labeller(server).label([latent(3)])
        assert len(server.requests) == 2
        assert path.read_text() == whole
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            labeller(server).label([latent(3)])


def test_a_file_is_whole_or_absent(tmp_path, monkeypatch):
    answers = Answers(tmp_path / "a" / "b")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        answers.keep({"model": "m"}, answer())
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_cache_that_is_no_folder_is_refused_before_work_starts(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"cache: got '.*file' \(File exists\), allowed: a folder"):
        Answers(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
