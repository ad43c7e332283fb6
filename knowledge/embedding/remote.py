"""Embeddings by an OpenAI-compatible server: vLLM, Text Embeddings Inference, Ollama, or OpenAI itself.

    POST {embeddings_url}/embeddings  {"model": …, "input": [texts], "encoding_format": "float"}

What the server says about an error may repeat a passage or the key, and is logged at debug level only.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from knowledge.embedding import Vectors
from knowledge.embedding.checked import estimated_tokens, unit_vectors, well_formed
from knowledge.embedding.prompts import prompts_of
from knowledge.errors import EmbeddingsFailed
from settings import Knowledge

log = logging.getLogger("familiar")

BATCH = 32
LONGEST = 8192  # tokens; what the server's model takes is not known, knowledge.chunk_tokens must suit it
CONNECT_WITHIN_S = 10.0
LONGEST_PAUSE_S = 30.0
BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    tries: int
    within_s: float  # for each try


FOR_PASSAGES = Patience(6, 120)
FOR_A_QUESTION = Patience(3, 15)  # somebody waits for the reply


class RemoteEmbedder:
    """`pause` waits for so many seconds before another try."""

    def __init__(self, knowledge: Knowledge, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Asks the server nothing yet: it may be down, and start later. Raises EmbeddingsFailed for the settings."""
        if knowledge.embeddings == "bundled":
            raise EmbeddingsFailed(
                "knowledge.embeddings_url is set, so knowledge.embeddings must be the name of a model at that address."
            )
        self._model = knowledge.embeddings
        self._prompts = prompts_of(self._model)
        self._pause = pause
        key = knowledge.embeddings_api_key.get_secret_value().strip()
        if not (key.isascii() and key.isprintable()):
            raise EmbeddingsFailed("FAMILIAR_KNOWLEDGE__EMBEDDINGS_API_KEY holds characters that no key has.")
        try:
            url = httpx.URL(knowledge.embeddings_url.rstrip("/") + "/embeddings")
        except httpx.InvalidURL as error:
            raise EmbeddingsFailed(f"knowledge.embeddings_url is no address: {error}") from error
        self._where = f"{url.host}:{url.port}" if url.port else url.host
        self._url = url.copy_with(userinfo=b"")  # httpx logs addresses
        self._client = httpx.Client(
            auth=(url.username, url.password) if url.userinfo else None,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )
        self.id = f"{self._model}/remote"
        self.max_tokens = LONGEST
        self._dimensions: int | None = None

    @property
    def dimensions(self) -> int:
        """The server is asked once, when it is first needed. Raises EmbeddingsFailed."""
        if self._dimensions is None:
            self._dimensions = self._asked(["dimensions"], FOR_A_QUESTION).shape[1]
        return self._dimensions

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [estimated_tokens(text) for text in texts]

    def embed_passages(self, texts: Sequence[str], *, on_batch: Callable[[int], None] | None = None) -> Vectors:
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for begin in range(0, len(texts), BATCH):
            batch = [self._prompts.passage + _cut(text) for text in texts[begin : begin + BATCH]]
            vectors[begin : begin + BATCH] = self._asked(batch, FOR_PASSAGES)
            if on_batch is not None:
                on_batch(begin + len(batch))
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for begin in range(0, len(texts), BATCH):
            batch = [self._prompts.query + _cut(text) for text in texts[begin : begin + BATCH]]
            vectors[begin : begin + BATCH] = self._asked(batch, FOR_A_QUESTION)
        return vectors

    def close(self) -> None:
        self._client.close()

    def _asked(self, texts: Sequence[str], patience: Patience) -> Vectors:
        # An empty text, which many servers refuse, is asked for as a space.
        body = {"model": self._model, "input": [text or " " for text in texts], "encoding_format": "float"}
        answer = self._posted(body, patience)
        try:
            data = sorted(answer.json()["data"], key=lambda item: item["index"])
            if [item["index"] for item in data] != list(range(len(texts))):
                raise ValueError("the vectors are not those of the texts")
            given = [item["embedding"] for item in data]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise EmbeddingsFailed(
                f"{self._where} answered, but not with embeddings. Is knowledge.embeddings_url an OpenAI-compatible "
                "server of embeddings? It mostly ends in /v1."
            ) from error
        return unit_vectors(given, len(texts), self._dimensions, f"{self._model} at {self._where}")

    def _posted(self, body: dict[str, Any], patience: Patience) -> httpx.Response:
        timeout = httpx.Timeout(patience.within_s, connect=min(CONNECT_WITHIN_S, patience.within_s))
        for tried in range(1, patience.tries + 1):
            try:
                answer = self._client.post(self._url, json=body, timeout=timeout)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                # Not the error itself: it may name the address with its password.
                fault, wait_s = f"cannot be reached, or did not answer in time ({type(error).__name__})", 0.0
            else:
                if answer.status_code == 200:
                    return answer
                log.debug("%s answered %s: %s", self._where, answer.status_code, answer.text[:500])
                if answer.status_code not in BUSY:
                    raise EmbeddingsFailed(self._refusal(answer.status_code))
                fault, wait_s = f"answers {answer.status_code}", _advised(answer)
            if tried == patience.tries:
                break
            wait_s = max(wait_s, 0.25 * 2**tried) * random.uniform(1, 1.25)  # not all at once
            log.warning("%s, the server of embeddings, %s; trying again", self._where, fault)
            self._pause(min(wait_s, LONGEST_PAUSE_S))
        raise EmbeddingsFailed(
            f"{self._where}, the server of embeddings, {fault}; {patience.tries} tries. Is it running, and is "
            "knowledge.embeddings_url right?"
        )

    def _refusal(self, status: int) -> str:
        if status in (401, 403):
            return (
                f"{self._where}, the server of embeddings, refused the key ({status}). Set "
                "FAMILIAR_KNOWLEDGE__EMBEDDINGS_API_KEY."
            )
        if status == 404:
            return (
                f"{self._where}, the server of embeddings, knows no such address or no model {self._model!r} (404). "
                "See knowledge.embeddings_url, which mostly ends in /v1, and knowledge.embeddings."
            )
        if status in (400, 413, 422):
            return (
                f"{self._where}, the server of embeddings, refused the texts ({status}). If they are too long for "
                f"{self._model!r}, make knowledge.chunk_tokens smaller."
            )
        return f"{self._where}, the server of embeddings, answered {status}."


def _cut(text: str) -> str:
    text = well_formed(text)
    while (tokens := estimated_tokens(text)) > LONGEST:
        text = text[: len(text) * LONGEST // (tokens + 1)]
    return text


def _advised(answer: httpx.Response) -> float:
    """Retry-After, in seconds; 0 where there is none (or a date, which these servers do not send)."""
    try:
        return max(0.0, float(answer.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
