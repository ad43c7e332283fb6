"""Embeddings from an OpenAI-compatible server: a real one on this machine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from pydantic import SecretStr

from knowledge.embedding import open_embedder
from knowledge.embedding.remote import LONGEST, RemoteEmbedder
from knowledge.errors import EmbeddingsFailed
from settings import Knowledge, Settings
from tests.knowledge.embedding.embedding_server import KEY, Server, status, vector_of


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def embedder(server: Server, pauses: list[float]) -> Iterator[RemoteEmbedder]:
    embedder = remote(server.url, pauses)
    assert embedder.dimensions == 8
    server.requests.clear()
    yield embedder
    embedder.close()


def remote(url: str, pauses: list[float], model: str = "some/model") -> RemoteEmbedder:
    knowledge = Knowledge(embeddings=model, embeddings_url=url, embeddings_api_key=SecretStr(KEY))
    return RemoteEmbedder(knowledge, pause=pauses.append)


def unit(text: str) -> Any:
    vector = np.array(vector_of(text))
    return vector / np.linalg.norm(vector)


def test_every_text_gets_its_own_vector_of_unit_length(server: Server, embedder: RemoteEmbedder) -> None:
    texts = [f"text {number} 文本" for number in range(100)]
    heard: list[int] = []
    vectors = embedder.embed_passages(texts, on_batch=heard.append)
    np.testing.assert_allclose(vectors, [unit(text) for text in texts], atol=1e-6)
    assert vectors.dtype == np.float32
    assert heard[-1] == 100
    assert 1 < len(server.requests) < 10
    assert server.requests[0]["model"] == "some/model"
    assert embedder.dimensions == 8


def test_vectors_are_put_in_the_order_of_their_numbers(server: Server, embedder: RemoteEmbedder) -> None:
    server.change = lambda answer: answer | {"data": answer["data"][::-1]}
    np.testing.assert_allclose(embedder.embed_queries(["one", "two"]), [unit("one"), unit("two")], atol=1e-6)


def test_the_key_is_sent(server: Server, embedder: RemoteEmbedder) -> None:
    embedder.embed_queries(["a question"])
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"


def test_a_name_and_password_in_the_address_are_sent_and_never_shown(
    server: Server, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    embedder = remote(server.url.replace("//", "//me:hush-hush@"), pauses)
    embedder.embed_queries(["a question"])
    assert server.headers[-1]["Authorization"].startswith("Basic ")
    server.faults = [status(400)]
    with pytest.raises(EmbeddingsFailed) as raised:
        embedder.embed_queries(["a question"])
    assert "hush-hush" not in str(raised.value) + caplog.text
    embedder.close()


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(server: Server, embedder: RemoteEmbedder, pauses: list[float], code: int) -> None:
    server.faults = [status(code), status(code)]
    np.testing.assert_allclose(embedder.embed_passages(["text"]), [unit("text")], atol=1e-6)
    assert len(pauses) == 2
    assert 0 < pauses[0] < pauses[1]


def test_it_waits_as_long_as_the_server_asks_within_reason(
    server: Server, embedder: RemoteEmbedder, pauses: list[float]
) -> None:
    server.faults = [
        status(429, **{"Retry-After": "7"}),
        status(429, **{"Retry-After": "86400"}),
        status(429, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    ]
    embedder.embed_passages(["text"])
    assert 7 <= pauses[0] < 10
    assert pauses[1] == 30
    assert pauses[2] < 7


def test_a_server_that_stays_busy_is_given_up_sooner_for_a_question(server: Server, embedder: RemoteEmbedder) -> None:
    tried = []
    for ask in (embedder.embed_queries, embedder.embed_passages):
        server.requests.clear()
        server.faults = [status(503)] * 20
        with pytest.raises(EmbeddingsFailed, match="answers 503"):
            ask(["text"])
        tried.append(len(server.requests))
    assert 1 < tried[0] < tried[1]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (401, "API_KEY"),
        (403, "API_KEY"),
        (404, "some/model"),
        (400, "chunk_tokens"),
        (413, "chunk_tokens"),
        (418, "418"),
    ],
)
def test_a_refusal_is_not_repeated_and_says_what_to_do(
    server: Server, embedder: RemoteEmbedder, code: int, advice: str
) -> None:
    server.faults = [status(code)]
    with pytest.raises(EmbeddingsFailed, match=advice):
        embedder.embed_passages(["text"])
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [400, 401, 404, 429, 500])
def test_the_key_is_in_no_error_and_no_log(
    server: Server, embedder: RemoteEmbedder, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.faults = [status(code)] * 10
    with pytest.raises(EmbeddingsFailed) as raised:
        embedder.embed_passages(["text"])
    assert KEY not in f"{raised.value} {raised.value!r} {raised.value.__cause__} {caplog.text}"


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: [],
        lambda answer: {},
        lambda answer: {"data": None},
        lambda answer: {"data": [{"index": 0}]},
        lambda answer: {"data": answer["data"] * 2},
        lambda answer: {"data": []},
        lambda answer: {"data": [{"index": 0, "embedding": "AAAA"}]},
        lambda answer: {"data": [{"index": 0, "embedding": [[1.0]]}]},
        lambda answer: {"data": [{"index": 0, "embedding": []}]},
        lambda answer: {"data": [{"index": 0, "embedding": [0.0] * 8}]},
        lambda answer: {"data": [{"index": 0, "embedding": [float("nan")] * 8}]},
        lambda answer: {"data": [{"index": 0, "embedding": [float("inf")] * 8}]},
        lambda answer: {"data": [{"index": 0, "embedding": [1.0] * 9}]},
        lambda answer: {"data": [{"index": 0, "embedding": [None] * 8}]},
    ],
)
def test_what_are_not_vectors_is_refused(
    server: Server, embedder: RemoteEmbedder, change: Callable[[dict[str, Any]], Any]
) -> None:
    server.change = change
    with pytest.raises(EmbeddingsFailed):
        embedder.embed_passages(["text"])


def test_a_page_instead_of_json_is_refused(server: Server, embedder: RemoteEmbedder) -> None:
    server.faults = [lambda: web.Response(text="<html>welcome</html>", content_type="text/html")]
    with pytest.raises(EmbeddingsFailed, match="ends in /v1"):
        embedder.embed_passages(["text"])


def test_a_server_that_is_not_there_is_named_by_whatever_needs_it(server: Server, pauses: list[float]) -> None:
    url, port = server.url, server.port
    server.close()
    embedder = remote(url, pauses)
    for needs in (lambda: embedder.dimensions, lambda: embedder.embed_queries(["a question"])):
        with pytest.raises(EmbeddingsFailed, match=f"127.0.0.1:{port}.*cannot be reached"):
            needs()
    embedder.close()


def test_a_server_that_comes_up_later_serves(server: Server, pauses: list[float]) -> None:
    embedder = remote(server.url, pauses)
    server.faults = [status(503)] * 3
    with pytest.raises(EmbeddingsFailed):
        embedder.embed_queries(["text"])
    np.testing.assert_allclose(embedder.embed_queries(["text"]), [unit("text")], atol=1e-6)
    embedder.close()


def test_a_key_that_cannot_be_sent_is_not_repeated(server: Server) -> None:
    knowledge = Knowledge(embeddings="m", embeddings_url=server.url, embeddings_api_key=SecretStr("sk-密钥"))
    with pytest.raises(EmbeddingsFailed) as raised:
        RemoteEmbedder(knowledge)
    assert "密钥" not in str(raised.value)


def test_the_name_of_a_model_must_be_given_with_the_address(server: Server) -> None:
    with pytest.raises(EmbeddingsFailed, match=r"knowledge\.embeddings must be the name"):
        RemoteEmbedder(Knowledge(embeddings_url=server.url))


@pytest.mark.parametrize(
    ("model", "query", "passage"),
    [
        ("intfloat/multilingual-e5-base", "query: text", "passage: text"),
        ("nomic-embed-text:v1.5", "search_query: text", "search_document: text"),
        ("text-embedding-3-small", "text", "text"),
    ],
)
def test_a_model_is_told_which_are_questions_as_it_was_trained(
    server: Server, pauses: list[float], model: str, query: str, passage: str
) -> None:
    embedder = remote(server.url, pauses, model)
    embedder.embed_queries(["text"])
    embedder.embed_passages(["text"])
    assert [request["input"] for request in server.requests[-2:]] == [[query], [passage]]
    embedder.close()


@pytest.mark.parametrize("text", ["", "\ud800 cut emoji", "\x00", "中" * 100_000])
def test_any_text_can_be_sent(server: Server, embedder: RemoteEmbedder, text: str) -> None:
    assert embedder.embed_passages([text]).shape == (1, 8)
    (sent,) = server.requests[-1]["input"]
    assert sent
    assert embedder.count_tokens([sent])[0] <= LONGEST


def test_threads_share_it(server: Server, embedder: RemoteEmbedder) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: embedder.embed_queries([f"text {number}"])[0], range(40)))
    np.testing.assert_allclose(found, [unit(f"text {number}") for number in range(40)], atol=1e-6)


def test_the_settings_lead_to_it(server: Server) -> None:
    knowledge = Knowledge(embeddings="some/model", embeddings_url=server.url + "/", embeddings_api_key=SecretStr(KEY))
    embedder = open_embedder(Settings(knowledge=knowledge))
    assert embedder.embed_queries([]).shape == (0, 8)
    assert "some/model" in embedder.id
    embedder.close()
