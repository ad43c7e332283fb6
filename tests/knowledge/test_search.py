from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from knowledge import relevance
from knowledge.errors import EmbeddingsFailed
from knowledge.passages import Passage, by_id
from knowledge.search import Searcher
from store.catalogue import owners
from tests.knowledge.searching import Shelf, TopicEmbedder

SHARED = ["shared"]
ADA, BEN = owners.person(1), owners.person(2)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    opened = Shelf(tmp_path, dense_weight=0.5)
    opened.put("hours.md", "The museum is open from ten to six. It is closed on Monday.")
    opened.put("refunds.md", "Money is given back within thirty days when you return a ticket.")
    opened.put("printer.md", "The printer AB-1234 takes toner TX_900 and A4 paper.")
    opened.put("狗.md", "公園裡的狗必須繫上牽繩。")
    opened.fill(20)
    yield opened
    opened.close()


def names(shelf: Shelf, question: str, readable: Sequence[str] = SHARED, **how: object) -> list[str]:
    return [passage.name for passage in shelf.searcher.search(question, readable, **how).passages]  # type: ignore[arg-type]


def test_words_of_the_question_find_the_passage_that_holds_them(shelf: Shelf) -> None:
    assert names(shelf, "When is the museum closed?")[0] == "hours.md"


def test_meaning_finds_a_passage_that_shares_no_word_with_the_question(shelf: Shelf) -> None:
    assert names(shelf, "How does a puppy walk there?", floor=0.0)[0] == "狗.md"
    assert names(shelf, "refund", floor=0.0)[0] == "refunds.md"


def test_a_part_number_is_found_however_its_parts_are_joined(shelf: Shelf) -> None:
    for question in ("AB-1234", "ab1234", "which toner is TX-900?", "tx900"):
        assert names(shelf, question, floor=0.0)[0] == "printer.md"


def test_a_chinese_question_finds_the_chinese_passage(shelf: Shelf) -> None:
    found = shelf.searcher.search("狗要繫牽繩嗎？", SHARED)
    assert [passage.name for passage in found.passages] == ["狗.md"]


def test_a_question_that_no_document_answers_gets_nothing_and_its_best_score_is_told(shelf: Shelf) -> None:
    found = shelf.searcher.search("Who won the football championship in Uruguay?", SHARED)
    assert found.passages == ()
    assert 0 < found.best < 0.3
    assert names(shelf, "Who won the football championship in Uruguay?", floor=0.0)


def test_scores_are_between_0_and_1_and_none_is_below_the_floor(shelf: Shelf) -> None:
    for passage in shelf.searcher.search("When is the museum open?", SHARED).passages:
        assert 0.3 <= passage.score <= 1
    assert not names(shelf, "When is the museum open?", floor=1.1)


def test_the_floor_of_the_settings_is_in_force_unless_the_call_names_one(tmp_path: Path) -> None:
    strict = Shelf(tmp_path, relevance_floor=1.0)
    strict.put("hours.md", "The museum is open from ten to six.")
    assert not names(strict, "museum open?")
    assert names(strict, "museum open?", floor=0.0) == ["hours.md"]
    strict.close()


def test_the_texts_of_others_are_never_found(shelf: Shelf) -> None:
    secret = shelf.put("diary.md", "The museum is open at night for me alone: password tulip.", owner=ADA)
    shelf.put("letter.md", "My dog is called Rex.", owner=owners.group("telegram", "-100"))
    questions = [
        "password tulip",
        "diary.md",
        f"{secret.id}:0-0",
        ADA,
        '"password" OR owner:*',
        "museum open tulip dog Rex",
    ]
    for question in questions:
        for readable in (SHARED, [BEN], [], ["shared", BEN], ["person:11"], ["person:"], ["person:1%"]):
            found = shelf.searcher.search(question, readable, floor=0.0)
            assert not {"diary.md", "letter.md"} & {passage.name for passage in found.passages}
            assert all(passage.owner in readable for passage in found.passages)
    assert names(shelf, "password tulip", [ADA], floor=0.0)[0] == "diary.md"


def test_nobodys_documents_answer_nothing(shelf: Shelf) -> None:
    found = shelf.searcher.search("museum", [], floor=0.0)
    assert (found.passages, found.best) == ((), 0.0)


def test_a_removed_document_is_not_found_even_where_its_vector_still_is(shelf: Shelf) -> None:
    document = shelf.put("old.md", "The museum of toys is open daily.")
    shelf.vectors.apply(wait=True)
    assert "old.md" in names(shelf, "museum of toys", floor=0.0)
    shelf.catalogue.remove([document.id])
    assert "old.md" not in names(shelf, "museum of toys", floor=0.0)
    shelf.vectors.apply(wait=True)
    assert "old.md" not in names(shelf, "museum of toys", floor=0.0)


def test_what_was_applied_to_chroma_is_found_as_what_is_waiting(shelf: Shelf) -> None:
    before = names(shelf, "When is the museum closed on Sunday?", floor=0.0)
    shelf.vectors.apply(wait=True)
    assert names(shelf, "When is the museum closed on Sunday?", floor=0.0) == before


def test_neighbouring_chunks_that_are_both_found_are_one_passage(shelf: Shelf) -> None:
    shelf.put(
        "guide.md", "Toner first: open the printer.", "Then the paper goes into the printer.", "Ships sail.", pages=True
    )
    first = shelf.searcher.search("printer toner paper", SHARED, limit=1).passages[0]
    both = next(p for p in shelf.searcher.search("printer toner paper", SHARED).passages if p.name == "guide.md")
    assert first.name in ("guide.md", "printer.md")
    assert both.text == "Toner first: open the printer.\n\nThen the paper goes into the printer."
    assert (both.page, both.page_end) == (1, 2)


def test_the_same_page_in_two_files_takes_one_place(shelf: Shelf) -> None:
    shelf.put("copy of hours.md", "The museum is open  from ten to six. It is closed on monday.")
    found = [name for name in names(shelf, "When is the museum closed?", floor=0.0) if "hours" in name]
    assert len(found) == 1


def test_no_more_passages_than_asked_for(shelf: Shelf) -> None:
    assert len(names(shelf, "mountains rivers weather", floor=0.0)) == shelf.knowledge.passages
    assert len(names(shelf, "mountains rivers weather", floor=0.0, limit=7)) == 7


def test_a_follow_up_is_searched_with_the_question_before_it(shelf: Shelf) -> None:
    history = ["Hello!", "When is the museum open?"]
    found = shelf.searcher.search("And when is it closed?", SHARED, history=history)
    assert found.query == "When is the museum open? And when is it closed?"
    assert found.passages[0].name == "hours.md"


def test_follow_ups_can_be_turned_off(tmp_path: Path) -> None:
    plain = Shelf(tmp_path, follow_ups="off")
    plain.put("hours.md", "The museum is open from ten to six.")
    assert plain.searcher.search("and then?", SHARED, history=["When is it open?"]).query == "and then?"
    plain.close()


@pytest.mark.parametrize(
    "question", ["", "   \n", "?!", "😀", "\x00", "\ud800", '"', "NEAR(a b)", "a" * 100_000, "of the"]
)
def test_any_text_is_a_question(shelf: Shelf, question: str) -> None:
    found = shelf.searcher.search(question, SHARED)
    assert len(found.passages) <= shelf.knowledge.passages


def test_a_page_pasted_as_a_question_is_answered_by_its_rare_words(shelf: Shelf) -> None:
    common = [f"common{number}" for number in range(90)]
    for name in ("one.md", "two.md", "three.md"):
        shelf.put(name, " ".join(common))
    shelf.put("zebra.md", "Beside the quagga lives the zebra.")
    pasted = " ".join([*common[:45], "quagga", "zebra", *common[45:]])
    found = shelf.searcher.search(pasted, SHARED, floor=0.0, limit=10)
    assert next(passage for passage in found.passages if passage.name == "zebra.md").lexical > 0
    assert found.query == pasted


def test_what_only_its_words_brought_in_has_its_true_cosine_too(shelf: Shelf) -> None:
    for number in range(60):
        shelf.put(f"shop {number}.md", f"Shop {number}: open on sunday.")
    shelf.put("tulip.md", "A tulip in a vase.")
    question = "tulip: open on sunday?"
    found = shelf.searcher.search(question, SHARED, floor=0.0, limit=20)
    passage = next(passage for passage in found.passages if passage.name == "tulip.md")
    asked, text = shelf.embedder.embed_queries([question, "A tulip in a vase."])
    assert passage.dense == pytest.approx(float(asked @ text), abs=1e-3)


def test_an_empty_index_answers_nothing(tmp_path: Path) -> None:
    empty = Shelf(tmp_path)
    assert empty.searcher.search("museum", SHARED).passages == ()
    empty.close()


def test_one_document_alone_can_answer(tmp_path: Path) -> None:
    one = Shelf(tmp_path)
    one.put("hours.md", "The museum is open from ten to six.")
    assert names(one, "When is the museum open?") == ["hours.md"]
    assert names(one, "How large is a refund of tickets?") == []
    one.close()


class Contrary:
    """A cross-encoder with its own mind: shorter is better."""

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        return [1 / (1 + len(text)) for text in texts]


def test_a_reranker_has_the_last_word_on_order_and_score(shelf: Shelf) -> None:
    shelf.put("tiny.md", "museum")
    reranked = Searcher(shelf.catalogue, shelf.vectors, shelf.embedder, shelf.knowledge, Contrary())  # type: ignore[arg-type]
    found = reranked.search("When is the museum open?", SHARED, floor=0.0)
    assert found.passages[0].name == "tiny.md"
    assert [p.score for p in found.passages] == sorted((p.score for p in found.passages), reverse=True)
    assert found.best == found.passages[0].score
    assert "rerank" in found.timings


def test_the_time_of_each_step_is_told(shelf: Shelf) -> None:
    timings = shelf.searcher.search("museum", SHARED).timings
    assert set(timings) == {"embed", "dense", "lexical", "judge"}
    assert all(seconds >= 0 for seconds in timings.values())


def test_threads_search_at_the_same_time(shelf: Shelf) -> None:
    alone = names(shelf, "When is the museum closed?", floor=0.0)
    results: list[list[str]] = []

    def ask() -> None:
        for _ in range(5):
            results.append(names(shelf, "When is the museum closed?", floor=0.0))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 30


def test_another_embedding_model_than_the_bundled_one_still_finds(tmp_path: Path) -> None:
    class Other(TopicEmbedder):
        id = "somebody/other"

    other = Shelf(tmp_path, Other())
    other.fill(20)
    other.put("hours.md", "The museum is open from ten to six.")
    other.put("refunds.md", "You get your money back.")
    assert names(other, "When is the museum open?")[0] == "hours.md"
    assert names(other, "Who won the football championship?") == []
    other.close()


def test_a_passage_can_be_read_again_by_its_id_by_those_who_may(shelf: Shelf) -> None:
    shelf.put("diary.md", "password tulip", "and more of tulip", owner=ADA)
    passage = shelf.searcher.search("password tulip", [ADA]).passages[0]
    again = by_id(shelf.catalogue, passage.id, [ADA, "shared"])
    assert again is not None
    assert (again.text, again.name) == (passage.text, "diary.md")
    assert by_id(shelf.catalogue, passage.id, [BEN, "shared"]) is None
    assert by_id(shelf.catalogue, passage.id, []) is None


def test_an_id_of_what_is_gone_or_changed_or_was_never_reads_nothing(shelf: Shelf) -> None:
    passage = shelf.searcher.search("When is the museum closed?", SHARED).passages[0]
    shelf.put("hours.md", "Everything is different now.")
    assert by_id(shelf.catalogue, passage.id, SHARED) is None
    shelf.catalogue.remove([passage.document_id])
    assert by_id(shelf.catalogue, passage.id, SHARED) is None
    for invented in (
        "",
        "1",
        "1:0-0",
        "1:0-99999@00000000",
        "x:y-z@0",
        "9999:0-0@00000000",
        "1:2-1@00000000",
        "1:0-0@ABCDEFGH",
    ):
        assert by_id(shelf.catalogue, invented, SHARED) is None


class Moody(TopicEmbedder):
    """It fails while `down`, as a server does."""

    down = ""

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if self.down:
            raise EmbeddingsFailed(self.down)
        return super().embed_queries(texts)


@pytest.fixture
def moody(tmp_path: Path) -> Iterator[Shelf]:
    opened = Shelf(tmp_path / "moody", Moody())
    opened.put("hours.md", "The museum is open from ten to six. It is closed on Monday.")
    opened.put("refunds.md", "Money is given back within thirty days when you return a ticket.")
    opened.put("狗.md", "公園裡的狗必須繫上牽繩。")
    opened.put("diary.md", "Ada hid the marzipan in the museum.", owner=ADA)
    opened.fill(20)
    opened.vectors.apply(wait=True)
    opened.embedder.down = "the server of embeddings cannot be reached"  # type: ignore[attr-defined]
    yield opened
    opened.close()


def test_without_the_embedding_model_words_alone_find_what_holds_most_of_them(moody: Shelf) -> None:
    found = moody.searcher.search("When is the museum closed on Monday?", SHARED)
    assert [passage.name for passage in found.passages] == ["hours.md"]
    assert "cannot be reached" in found.degraded
    moody.embedder.down = ""  # type: ignore[attr-defined]
    assert found.best < moody.searcher.search("When is the museum closed on Monday?", SHARED).best
    moody.embedder.down = "still"  # type: ignore[attr-defined]
    assert [p.name for p in moody.searcher.search("公園裡的狗要繫牽繩嗎？", SHARED, floor=0.0).passages] == ["狗.md"]


def test_without_the_embedding_model_a_passage_with_some_of_the_words_is_not_trusted(moody: Shelf) -> None:
    for question in ("When did the museum buy its whale skeleton?", "Does the weather close the Uruguay football cup?"):
        found = moody.searcher.search(question, SHARED)
        assert found.passages == ()
        assert found.best < relevance.FLOOR
        assert names(moody, question, floor=0.0), "there were candidates"


def test_without_the_embedding_model_nobody_reads_what_is_anothers(moody: Shelf) -> None:
    assert "diary.md" not in names(moody, "Where did Ada hide the marzipan?", floor=0.0)
    assert names(moody, "Where is the marzipan of Ada hid?", [ADA]) == ["diary.md"]
    assert names(moody, "marzipan", []) == []


def test_an_outage_is_logged_once_and_over_when_the_model_answers(
    moody: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "familiar"):
        for _ in range(3):
            moody.searcher.search("museum", SHARED)
        assert caplog.text.count("words alone") == 1
        moody.embedder.down = ""  # type: ignore[attr-defined]
        found = moody.searcher.search("When is it closed on Monday?", SHARED)
        assert found.degraded == ""
        assert found.passages[0].dense > 0.5
        moody.embedder.down = "again"  # type: ignore[attr-defined]
        assert moody.searcher.search("museum", SHARED).degraded == "again"
        assert caplog.text.count("words alone") == 2


def test_without_the_embedding_model_a_reranker_still_has_the_last_word(moody: Shelf) -> None:
    reranked = Searcher(moody.catalogue, moody.vectors, moody.embedder, moody.knowledge, Contrary())  # type: ignore[arg-type]
    found = reranked.search("museum Monday", SHARED, floor=0.0)
    assert found.best == found.passages[0].score == 1 / (1 + len(f"hours.md\n{found.passages[0].text}"))


def test_what_others_have_moves_neither_scores_nor_order(shelf: Shelf) -> None:
    questions = ["When is the museum closed?", "printer toner", "狗要繫牽繩嗎？", "weather of the mountains", "tulip"]

    def found() -> list[tuple[float, list[Passage]]]:
        searched = [shelf.searcher.search(question, [*SHARED, BEN], floor=0.0, limit=10) for question in questions]
        return [(each.best, list(each.passages)) for each in searched]

    shelf.put("bens.md", "The printer of Ben prints no mountains.", owner=BEN)
    before = found()
    for number in range(30):
        shelf.put(f"{number}.md", f"The museum is closed, tulip printer toner, 狗要繫牽繩 {number}", owner=ADA)
    assert found() == before
    shelf.catalogue.remove_of(ADA)
    assert found() == before
