from __future__ import annotations

import pytest

from knowledge import lexical
from knowledge.passages import JOINED, Candidate, distinct, passages
from store.catalogue.catalogue import Chunk


def candidate(document: int, position: int, text: str, score: float = 0.5, page: int | None = None) -> Candidate:
    chunk = Chunk(
        100 * document + position, document, position, text, "H", page, page, "h", 5, "shared", "T", "file:x", "x"
    )
    return Candidate(chunk, tuple(lexical.terms(text)), score, score, score)


def test_neighbours_become_one_passage_in_the_order_of_the_document() -> None:
    found = passages([candidate(1, 3, "third", 0.9, 7), candidate(1, 2, "second", 0.6, 6)], 4)
    assert [(p.text, p.page, p.page_end, p.score) for p in found] == [("second\n\nthird", 6, 7, 0.9)]
    assert found[0].id.startswith("1:2-3@")


def test_a_chunk_between_two_others_joins_all_three() -> None:
    found = passages([candidate(1, 1, "a"), candidate(1, 3, "c"), candidate(1, 2, "b")], 4)
    assert [p.text for p in found] == ["a\n\nb\n\nc"]


def test_chunks_of_other_documents_and_farther_ones_stay_apart() -> None:
    found = passages([candidate(1, 1, "a"), candidate(2, 2, "b"), candidate(1, 3, "c")], 4)
    assert [p.text for p in found] == ["a", "b", "c"]


def test_a_long_document_does_not_become_one_passage() -> None:
    found = passages([candidate(1, position, f"part {position}") for position in range(12)], 4)
    assert len(found) == 4
    assert all(p.text.count("part") <= JOINED for p in found)
    spoken = "\n\n".join(p.text for p in found).split("\n\n")
    assert len(spoken) == len(set(spoken))


def test_a_neighbour_still_joins_when_there_is_no_room_for_another_passage() -> None:
    found = passages([candidate(1, 1, "a"), candidate(2, 9, "other"), candidate(1, 2, "b")], 1)
    assert [p.text for p in found] == ["a\n\nb"]


def test_a_passage_without_pages_has_none() -> None:
    assert (passages([candidate(1, 0, "a")], 1)[0].page, passages([candidate(1, 0, "a")], 1)[0].page_end) == (
        None,
        None,
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The museum is open.", "the  MUSEUM is\nopen."),
        ("狗必須繫上牽繩。", "狗必須繫上牽繩！"),
        (" ".join(f"word{n}" for n in range(100)), " ".join(f"word{n}" for n in range(100)) + " end"),
    ],
)
def test_the_same_text_again_is_dropped_and_the_better_one_kept(one: str, other: str) -> None:
    assert [c.chunk.id for c in distinct([candidate(2, 0, one, 0.9), candidate(1, 0, other, 0.8)])] == [200]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is open on Sunday.", "It is open on Monday."),
        ("short", "other"),
        (" ".join(f"word{n}" for n in range(100)), " ".join(f"word{n}" for n in range(50))),
        ("狗必須繫上牽繩。", "貓必須繫上牽繩。"),
    ],
)
def test_a_text_that_says_something_else_is_kept(one: str, other: str) -> None:
    assert len(distinct([candidate(1, 0, one), candidate(2, 0, other)])) == 2


def test_texts_without_words_are_not_all_the_same() -> None:
    assert len(distinct([candidate(1, 0, "→ ↑"), candidate(2, 0, "→ ↑"), candidate(3, 0, "42")])) == 2
