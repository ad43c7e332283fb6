from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge import relevance
from knowledge.errors import EmbeddingsFailed
from knowledge.evaluate import Asked, calibrate, made_questions, read_questions
from tests.knowledge.searching import Shelf, TopicEmbedder

SHARED = ["shared"]
ANIMALS = [
    "badger",
    "heron",
    "otter",
    "falcon",
    "lynx",
    "salmon",
    "beetle",
    "marten",
    "weasel",
    "condor",
    "bison",
    "ibis",
]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    opened = Shelf(tmp_path, dense_weight=0.5)
    opened.fill(10)
    for animal in ANIMALS:
        opened.put(f"{animal}.md", f"The {animal} builds nests of {animal}weed near quiet water. It sleeps in winter.")
    yield opened
    opened.close()


def questions() -> list[Asked]:
    return [Asked(f"Where does the {animal} build with {animal}weed?", document=f"{animal}.md") for animal in ANIMALS]


def test_questions_that_are_all_answered_have_full_recall_and_rank(shelf: Shelf) -> None:
    result = calibrate(shelf.searcher, SHARED, questions())
    assert (result.questions, result.estimate, result.moved) == (12, False, True)
    assert result.recall == {1: 1.0, 5: 1.0, 10: 1.0}
    assert result.mrr == 1.0
    assert result.auc > 0.95


def test_a_question_whose_passage_does_not_come_counts_against_recall(shelf: Shelf) -> None:
    asked = [*questions(), Asked("Where does the badger build?", answer="text of no document")]
    result = calibrate(shelf.searcher, SHARED, asked)
    assert result.recall[10] == pytest.approx(12 / 13)


def test_the_floor_separates_the_answers_from_the_rest_and_is_in_force_afterwards(shelf: Shelf) -> None:
    result = calibrate(shelf.searcher, SHARED, questions())
    assert result.answered - result.misled > 0.7
    assert relevance.in_force(shelf.catalogue, shelf.searcher.judge).floor == result.floor  # type: ignore[union-attr]
    assert shelf.searcher.search("Where does the otter build with otterweed?", SHARED).passages[0].name == "otter.md"
    assert all(p.score >= result.floor for p in shelf.searcher.search("otter", SHARED).passages)


def test_documents_that_all_say_much_the_same_do_not_raise_the_floor_until_answers_are_hidden(shelf: Shelf) -> None:
    for animal in ANIMALS:
        shelf.put(f"more {animal}.md", f"Where and with what does the {animal} build? With {animal}weed, some say.")
    result = calibrate(shelf.searcher, SHARED, questions())
    assert result.floor <= 0.5


def test_questions_that_no_document_answers_count_for_the_floor_and_not_for_recall(shelf: Shelf) -> None:
    unanswerable = [Asked(f"How much is ticket number {number}?", answerable=False) for number in range(12)]
    result = calibrate(shelf.searcher, SHARED, [*questions(), *unanswerable])
    assert (result.questions, result.recall[1]) == (12, 1.0)
    assert result.without_answer >= 24
    assert result.misled < 0.2


def test_too_few_questions_leave_the_floor_as_it_is(shelf: Shelf) -> None:
    result = calibrate(shelf.searcher, SHARED, questions()[:3])
    assert (result.moved, result.floor) == (False, relevance.FLOOR)
    assert shelf.catalogue.get_meta(relevance.META) == ""


def test_without_questions_some_are_made_and_the_result_says_that_it_is_an_estimate(shelf: Shelf) -> None:
    told: list[tuple[int, int]] = []
    result = calibrate(shelf.searcher, SHARED, on_progress=lambda done, total: told.append((done, total)))
    assert result.estimate
    assert result.questions > 50
    assert result.recall[10] > 0.8
    assert told[-1][0] == told[-1][1] == len(told)
    assert 0.1 <= result.floor <= 0.5


def test_made_questions_are_the_same_for_the_same_documents_and_come_from_what_may_be_read(shelf: Shelf) -> None:
    shelf.put("diary.md", "My secret password is tulip and nobody else knows that.", owner="person:1")
    made = made_questions(shelf.searcher, SHARED)
    assert made == made_questions(shelf.searcher, SHARED)
    assert not any("tulip" in asked.question or asked.document == "diary.md" for asked in made)


def test_an_empty_index_can_be_evaluated(tmp_path: Path) -> None:
    empty = Shelf(tmp_path)
    result = calibrate(empty.searcher, SHARED)
    assert (result.questions, result.moved, result.recall[1]) == (0, False, 0.0)
    empty.close()


def test_the_cosines_of_an_unknown_model_are_measured(tmp_path: Path) -> None:
    class Other(TopicEmbedder):
        id = "somebody/other"

    other = Shelf(tmp_path, Other(), dense_weight=0.5)
    other.fill(10)
    for animal in ANIMALS:
        other.put(f"{animal}.md", f"The {animal} builds nests of {animal}weed near quiet water. It sleeps in winter.")
    calibrate(other.searcher, SHARED, questions())
    saved = relevance.in_force(other.catalogue, "somebody/other")
    assert saved is not None
    assert 0.5 < saved.unrelated < 1
    other.close()


def test_lines_that_cannot_be_used_are_told_by_number_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    lines = [
        json.dumps({"question": "When?", "document": "hours.md"}).encode(),
        b"not json",
        b"",
        json.dumps({"question": "   ", "answer": "x"}).encode(),
        json.dumps({"question": "Where?"}).encode(),
        json.dumps(["question"]).encode(),
        json.dumps({"question": "哪裡？", "answer": "台北"}, ensure_ascii=False).encode("utf-8"),
        b"\xff\xfe",
        json.dumps({"question": "Who?", "answer": None}).encode(),
        json.dumps({"question": "Who?", "source": 3}).encode(),
        b"[" * 100_000,
    ]
    file.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    asked, malformed = read_questions(file)
    assert asked == [
        Asked("When?", document="hours.md"), Asked("哪裡？", answer="台北"), Asked("Who?", answerable=False)
    ]  # fmt: skip
    assert [each.line for each in malformed] == [2, 4, 5, 6, 8, 10, 11]
    assert "neither document" in malformed[2].reason


def test_no_floor_is_set_while_the_embedding_model_fails(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(texts: object) -> None:
        raise EmbeddingsFailed("the server is down")

    monkeypatch.setattr(shelf.embedder, "embed_queries", failing)
    for asked in (questions(), None):
        with pytest.raises(EmbeddingsFailed, match="the server is down"):
            calibrate(shelf.searcher, SHARED, asked)
    assert shelf.catalogue.get_meta(relevance.META) == ""
