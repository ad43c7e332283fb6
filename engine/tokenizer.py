"""How many tokens a conversation is for the model, counted here with the model's own files.

The chat template is rendered as transformers renders it (its utils/chat_template_utils.py) and the text is encoded with
tokenizer.json, so the count is vLLM's. transformers itself takes seconds to import, which a chat would feel.

A message must not be able to speak as somebody else: the model reads "<|im_end|>" inside a message as the end of that
message. So a `Shield` breaks every special token in a content with a zero-width space: the same to a reader, plain text
to the model. The client counts and sends shielded messages only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

from engine.errors import EngineRefused, ModelUnavailable

ChatMessage = dict[str, str]  # role, content

ZERO_WIDTH_SPACE = "\u200b"


class Shield:
    """Takes special tokens out of the contents of messages."""

    def __init__(self, special: str) -> None:
        """`special`: a regular expression that matches where a special token stands."""
        # A look-ahead, so that of two tokens that overlap the second is found too.
        self._first_character = re.compile(f"(?={special}).", re.DOTALL)

    @classmethod
    def against(cls, tokens: Iterable[str]) -> Shield:
        """A shield against these tokens. One of a single character cannot be broken and is left alone."""
        return cls(
            "(?:" + ("|".join(re.escape(token) for token in sorted(set(tokens)) if len(token) > 1) or "(?!)") + ")"
        )

    def __call__(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """The messages as they may be sent. Applied twice it changes nothing more."""
        return [{**message, "content": self._safe(message["content"])} for message in messages]

    def _safe(self, content: str) -> str:
        return self._first_character.sub(rf"\g<0>{ZERO_WIDTH_SPACE}", _well_formed(content))


# For a model whose files are not here: the forms that special tokens have in the chat models of these years.
COMMON_SHIELD = Shield(
    r"(?:<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk|sop|eop|mask)>|\[gMASK\]"
    r"|<(?:start|end)_of_(?:turn|image)>|<\|?turn\|?>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\])"
)


class PromptTokenizer:
    """The chat template and tokenizer of the model in a folder. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelUnavailable if the folder has no tokenizer.json or no chat template."""
        settings = _json(folder / "tokenizer_config.json")
        self._named = _named_tokens({**_json(folder / "special_tokens_map.json"), **settings})
        self._template = _compiled(_chat_template(folder, settings), folder)
        self._tokenizer = _tokenizer(folder, settings, self._named.values())
        self.shield = Shield.against(
            token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special
        )

    def count(self, messages: Sequence[ChatMessage]) -> int:
        """Tokens of the prompt that vLLM makes of these messages, the reply's head included. Nothing is cut.

        Raises EngineRefused if the chat template does not take them, e.g. two user messages in a row.
        """
        return len(self._tokenizer.encode(self.render(messages), add_special_tokens=False))

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt as text. Raises like `count`."""
        try:
            return self._template.render(
                messages=list(messages), tools=None, documents=None, add_generation_prompt=True, **self._named
            )
        except TemplateError as error:
            raise EngineRefused(f"The model's chat template does not take this conversation: {error}") from error


def _tokenizer(folder: Path, settings: dict[str, Any], named: Iterable[str]) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelUnavailable(f"{folder} has no tokenizer.json.")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ModelUnavailable(f"{file} is damaged: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # As transformers does: older models name some of their special tokens in tokenizer_config.json alone.
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    declared = [_added_token(token) for token in settings.get("added_tokens_decoder", {}).values()]
    declared += [AddedToken(token, special=True, normalized=False) for token in named]
    for token in declared:
        if token.content in known:
            continue
        known.add(token.content)
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def _added_token(token: dict[str, Any]) -> AddedToken:
    flags = {flag: token.get(flag, False) for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    return AddedToken(token["content"], **flags)


def _named_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """bos_token, eos_token and their like, which templates may use."""
    texts = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in settings.items()
        if name.endswith("_token")
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _chat_template(folder: Path, settings: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by purpose
        template = next((entry["template"] for entry in template if entry["name"] == "default"), None)
    if not isinstance(template, str):
        raise ModelUnavailable(f"{folder} has no chat template: the model was not made for conversations.")
    return template


def _compiled(template: str, folder: Path) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        return environment.from_string(template)
    except TemplateError as error:
        raise ModelUnavailable(f"The chat template in {folder} is broken: {error}") from error


class _GenerationTag(Extension):
    """{% generation %}, with which a template marks the assistant's words for training. Here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelUnavailable(f"{file} is damaged: {error}") from error
    return content


def _well_formed(text: str) -> str:
    """Half characters (lone surrogates, as a terminal may deliver) cannot be encoded; each becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
