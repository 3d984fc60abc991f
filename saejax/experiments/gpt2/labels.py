"""The labellers of a study: the offline one always, and a chat model where one is named."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from absl import flags

from saejax.experiments.common import command, flagtable
from saejax.interpret.answers import Answers
from saejax.interpret.background import background
from saejax.interpret.chat import ChatLabeller, ChatSettings
from saejax.interpret.dashboard import TextSample
from saejax.interpret.endpoint import Endpoint
from saejax.interpret.labeller import Labeller
from saejax.interpret.offline import NAME as OFFLINE
from saejax.interpret.offline import OfflineLabeller

CACHE = "label-cache"
OPENAI_HOST, OPENAI_KEY = "api.openai.com", "OPENAI_API_KEY"


def define(own: flags.FlagValues) -> None:
    """The flags of a chat model that labels latents beside the offline labeller."""
    model = (
        "Model that labels latents too, as its server names it. Default: "
        "none, labels are made offline."
    )
    key_variable = (
        "Environment variable that holds the key; empty for a server that "
        f"wants none. Default: {OPENAI_KEY} for {OPENAI_HOST}, to be given for any other."
    )
    cache = "Folder of the answers, which cost nothing again. Default: label-cache in the workdir."
    url = "Base URL of a chat-completions endpoint, mostly ending in /v1."
    flagtable.define(own, str, chat_model=(None, model), chat_url=(None, url))
    flagtable.define(own, str, chat_key_variable=(None, key_variable), chat_cache=(None, cache))
    spent = "Tokens of prompts and answers that may be spent."
    longest = "Longest answer; more for models that think."
    flagtable.define(
        own,
        int,
        chat_max_requests=(ChatSettings.max_requests, "Requests that may be sent."),
        chat_max_tokens=(ChatSettings.max_tokens, spent),
        chat_answer_tokens=(ChatSettings.answer_tokens, longest),
    )


def chat(
    own: flags.FlagValues, workdir: Path, contexts: int
) -> tuple[Endpoint, ChatSettings, Path] | None:
    """What a chat labeller is made of; None where no model is named.

    Raises:
        ValueError: naming the flag, the value got and what is allowed.
    """
    if own.chat_model is None:
        if own.chat_url is not None:
            raise ValueError(f"chat_url: got {own.chat_url!r}, allowed: only with --chat_model")
        return None
    if own.chat_url is None:
        raise ValueError(
            "chat_url: got None, allowed: the base URL of an endpoint, with --chat_model"
        )
    if own.chat_model == OFFLINE:
        raise ValueError(
            f"chat_model: got {OFFLINE!r}, allowed: another name than the offline labeller's"
        )
    key_variable, host = own.chat_key_variable, urlsplit(own.chat_url).hostname
    if key_variable is None:
        # A key of one server is not to be sent to another for want of a flag.
        if host != OPENAI_HOST:
            raise ValueError(
                "chat_key_variable: got None, allowed: the environment variable that holds the "
                f"key of {host}, or empty (--chat_key_variable=) for none"
            )
        key_variable = OPENAI_KEY
    named = {"base_url": "chat_url", "contexts": "label_contexts"}
    whole = ("answer_tokens", "max_requests", "max_tokens")
    sizes: dict[str, Any] = {name: own[f"chat_{name}"].value for name in whole}
    named |= {name: f"chat_{name}" for name in ("key_variable", "model", *whole)}
    with command.flag_names(**named):
        endpoint = Endpoint(own.chat_url, key_variable or None)
        settings = ChatSettings(own.chat_model, contexts=contexts, **sizes)
    if own.chat_cache is None:
        return endpoint, settings, workdir / CACHE
    with command.flag_names(cache="chat_cache"):
        # Refused now where nothing can be written there, and not behind the training.
        return endpoint, settings, Answers(own.chat_cache).folder


def labellers(
    asked: tuple[Endpoint, ChatSettings, Path] | None, sample: TextSample
) -> list[Labeller]:
    """The offline labeller for a sample, and behind it the chat labeller that was asked for."""
    offline = OfflineLabeller(background(sample))
    return [offline] if asked is None else [offline, ChatLabeller(*asked)]
