"""Models of sentence-transformers, by folder and by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge.embedding import Embedder, open_embedder, prepare
from knowledge.embedding.sentence import SentenceEmbedder
from knowledge.errors import EmbeddingsFailed
from settings import Knowledge, Settings

TEXTS = ["the cat sat on the mat", "dog", "", "the dog ran far away", "猫坐", "the " * 20, "cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.knowledge.embedding.tiny import save_embedder

    return save_embedder(tmp_path_factory.mktemp("models") / "tiny-plain")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Embedder:
    return opened(folder)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def opened(folder: Path) -> Embedder:
    return open_embedder(Settings(knowledge=Knowledge(embeddings=str(folder), embedding_threads=1)))


def save(folder: Path, **how: Any) -> Path:
    from tests.knowledge.embedding.tiny import save_embedder

    return save_embedder(folder, **how)


def test_every_text_gets_its_own_vector_of_unit_length(embedder: Embedder) -> None:
    heard: list[int] = []
    vectors = embedder.embed_passages(TEXTS * 10, on_batch=heard.append)
    assert vectors.shape == (70, 32)
    assert vectors.dtype == np.float32
    assert embedder.dimensions == 32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([embedder.embed_passages([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, np.tile(alone, (10, 1)), atol=1e-5)
    assert heard == sorted(heard)
    assert heard[-1] == 70


def test_without_prompts_a_question_is_embedded_as_it_is(embedder: Embedder) -> None:
    np.testing.assert_allclose(embedder.embed_queries(TEXTS), embedder.embed_passages(TEXTS), atol=1e-5)


def test_the_models_own_prompts_stand_before_questions_and_passages(folder: Path, tmp_path: Path) -> None:
    prompted = opened(save(tmp_path / "prompted", prompts={"query": "dog ran ", "document": "mat "}))
    plain = opened(folder)
    np.testing.assert_allclose(prompted.embed_queries(["the cat"]), plain.embed_queries(["dog ran the cat"]), atol=1e-5)
    np.testing.assert_allclose(prompted.embed_passages(["the cat"]), plain.embed_passages(["mat the cat"]), atol=1e-5)
    assert prompted.max_tokens < plain.max_tokens


def test_an_e5_model_without_prompts_of_its_own_gets_those_of_e5(folder: Path, tmp_path: Path) -> None:
    e5, plain = opened(save(tmp_path / "multilingual-e5-tiny")), opened(folder)
    np.testing.assert_allclose(e5.embed_queries(["cat"]), plain.embed_queries(["query: cat"]), atol=1e-5)
    np.testing.assert_allclose(e5.embed_passages(["cat"]), plain.embed_passages(["passage: cat"]), atol=1e-5)


def test_the_id_is_the_same_for_the_same_model_and_another_after_training(folder: Path, tmp_path: Path) -> None:
    again, trained = save(tmp_path / "a" / "tiny-plain"), save(tmp_path / "b" / "tiny-plain", seed=1)
    assert opened(again).id == opened(folder).id
    assert opened(trained).id != opened(folder).id
    assert "tiny-plain" in opened(folder).id
    assert str(folder.parent) not in opened(folder).id


def test_tokens_are_counted_without_what_the_model_adds(embedder: Embedder) -> None:
    assert embedder.count_tokens(["", "the cat", "the " * 100]) == [0, 2, 100]
    assert embedder.count_tokens([]) == []
    assert embedder.max_tokens == 30


def test_what_is_longer_than_the_model_reads_is_cut(embedder: Embedder) -> None:
    full, longer = embedder.embed_passages(["cat " * embedder.max_tokens, "cat " * embedder.max_tokens + "dog"])
    np.testing.assert_allclose(full, longer, atol=1e-5)


@pytest.mark.parametrize("text", ["\ud800", "\x00", "😀" * 1000])
def test_any_text_has_a_vector(embedder: Embedder, text: str) -> None:
    assert np.isfinite(embedder.embed_passages([text])).all()
    assert embedder.count_tokens([text])[0] >= 0


def test_no_texts_have_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed_passages([]).shape == (0, 32)


def test_threads_share_it(embedder: Embedder) -> None:
    alone = embedder.embed_passages(TEXTS)

    def ask(turn: int) -> Any:
        if turn % 2:
            assert embedder.count_tokens(["the cat"]) == [2]
        return embedder.embed_passages(TEXTS)

    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(ask, range(12)):
            np.testing.assert_allclose(found, alone, atol=1e-5)


def test_a_model_that_is_not_here_and_cannot_be_had_says_what_to_do() -> None:
    with pytest.raises(EmbeddingsFailed, match=r"nobody/no-such-model.*could not be downloaded") as raised:
        SentenceEmbedder(Knowledge(embeddings="nobody/no-such-model"))
    assert "name a folder in knowledge.embeddings" in str(raised.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "./neither/this", "a/b/c", "what is this"])
def test_what_is_neither_a_folder_nor_an_id_is_refused_at_once(name: str) -> None:
    with pytest.raises(EmbeddingsFailed, match="no such folder"):
        SentenceEmbedder(Knowledge(embeddings=name))


@pytest.mark.parametrize("damage", ["empty", "cut"])
def test_a_damaged_folder_is_named(folder: Path, tmp_path: Path, damage: str) -> None:
    import shutil

    broken = tmp_path / "broken"
    if damage == "empty":
        broken.mkdir()
    else:
        shutil.copytree(folder, broken)
        weights = next(broken.rglob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EmbeddingsFailed, match=r"broken.*cannot be loaded"):
        opened(broken)


def test_preparing_tries_the_model_that_is_named(folder: Path) -> None:
    said: list[str] = []
    prepare(Settings(knowledge=Knowledge(embeddings=str(folder))), said.append)
    assert said == []
    with pytest.raises(EmbeddingsFailed):
        prepare(Settings(knowledge=Knowledge(embeddings="nobody/no-such-model")), said.append)
    assert "nobody/no-such-model" in said[0]
