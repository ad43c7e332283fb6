"""vLLM's answers as they come over the network: event streams, errors, metrics."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

from engine.errors import EngineBusy, EngineError, EngineRefused, PromptTooLong, UnknownModel, WrongKey

LONGEST_WORDS = 300  # characters of the server's own words that are passed on


class Broken(Exception):
    """The answer did not come or not whole. Asking again may help."""


class EventSplitter:
    """Cuts the bytes of an event stream into the data of its events, wherever the network cut them.

    A line may have any length. Comments (keep-alives) and other fields are dropped.
    """

    def __init__(self) -> None:
        self._unfinished = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that these bytes complete."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def chunk_of(event: bytes) -> dict[str, Any]:
    """One chunk of a reply. Raises EngineRefused or Broken if it is an error, Broken if it is no chunk."""
    try:
        chunk = json.loads(event)
    except ValueError as error:
        raise Broken(f"it sent a line that is not JSON: {_shortened(repr(event))}") from error
    if not isinstance(chunk, dict):
        raise Broken(f"it sent a line that is no chunk: {_shortened(repr(event))}")
    if "error" not in chunk:
        return chunk
    fault = _error_in(chunk)
    code = fault.get("code")
    if not isinstance(code, int) or code >= 500:
        raise Broken(_words(fault))
    raise refusal(code, chunk, "")


def error_of(status: int, body: bytes, model: str) -> EngineError | Broken:
    """What an answer with an error status means to whoever asked for `model`."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = body.decode(errors="replace")
    if status >= 500 and status != 503:
        return Broken(_words(_error_in(answer)) or f"it answered with status {status}")
    return refusal(status, answer, model)


def refusal(status: int, answer: Any, model: str) -> EngineError:
    """The error for a request that the server understood and does not serve."""
    error = _error_in(answer)
    words = _words(error) or f"The engine answered with status {status}."
    if status in (401, 403):
        return WrongKey("The engine did not accept the API key. Set engine.api_key to the key it was started with.")
    if status == 404 and (error.get("param") == "model" or error.get("type") == "NotFoundError"):
        return UnknownModel(f"The engine serves no model or adapter named {model}. {words}")
    if status in (429, 503):
        return EngineBusy(f"The engine has too much to do at the moment; try again soon. {words}")
    if error.get("param") in ("input_tokens", "max_tokens") or "maximum context length" in words:
        return PromptTooLong(words)
    return EngineRefused(words)


def metrics_of(text: str) -> dict[str, float]:
    """Prometheus' text format: the value of each name, summed over its labels."""
    sums: defaultdict[str, float] = defaultdict(float)
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if sample := re.fullmatch(r"([^\s{]+)(?:\{.*\})?\s+(\S+)(?:\s+\S+)?", line):
            sums[sample[1]] += float(sample[2])
    return dict(sums)


def _error_in(answer: Any) -> dict[str, Any]:
    """The error object of an answer, of whichever form: vLLM's, older vLLM's, FastAPI's, a proxy's text."""
    if not isinstance(answer, dict):
        return {"message": str(answer)}
    error = answer.get("error", answer)
    if not isinstance(error, dict):
        return {"message": str(error)}
    return {"message": error.get("detail", ""), **error}


def _words(error: dict[str, Any]) -> str:
    message = re.sub(r" \(parameter=[^()]*\)$", "", str(error.get("message") or ""))
    return _shortened(message)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_WORDS else text[: LONGEST_WORDS - 3] + "..."
