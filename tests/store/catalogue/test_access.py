"""Nobody is told of what is not theirs: by no way of reading, with no owners, and with no owner's name of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from store.catalogue import owners
from store.catalogue.catalogue import Catalogue
from tests.store.catalogue.made import MODEL, add, found, ids, texts

READINGS: dict[str, Callable[[Catalogue, Sequence[str]], object]] = {
    "documents": lambda catalogue, readable: catalogue.documents(readable),
    "documents added by": lambda catalogue, readable: catalogue.documents(readable, added_by=1),
    "count": lambda catalogue, readable: catalogue.count(readable),
    "chunks": lambda catalogue, readable: catalogue.chunks(list(range(1, 100)), readable),
    "chunk count": lambda catalogue, readable: catalogue.chunk_count(readable),
    "words": lambda catalogue, readable: catalogue.search_words(["secret", "of", "ada"], readable, 10),
    "frequencies": lambda catalogue, readable: any(catalogue.document_frequencies(["secret"], readable)[0].values()),
    "frequencies' whole": lambda catalogue, readable: catalogue.document_frequencies(["secret"], readable)[1],
    "pending": lambda catalogue, readable: catalogue.pending_puts(readable, MODEL)[0].tolist(),
    "by source": lambda catalogue, readable: [each for owner in readable for each in catalogue.by_source(owner, "")],
    "content": lambda catalogue, readable: [
        each for owner in readable for each in catalogue.with_content(owner, "same")
    ],
    "refusals": lambda catalogue, readable: [each for owner in readable for each in catalogue.refusals(owner)],
}
ADA = owners.person(1)
NOBODYS = [
    [], [""], [owners.person(2)], [owners.SHARED], ["person:"], ["person:%"], ["person:_"], ["PERSON:1"], ["person:1 "],
    [" person:1"], ["person:01"], ["person:1\x00"], ["person:1' OR '1'='1"], ['person:1"'], ['"] OR 1'], ["%"], ["*"],
    ["person:1,person:2"], ["[\"person:1\"]"], ["1"], ["None"], ["\ud800"], ["person:1\n"], ["person：1"],
]  # fmt: skip


@pytest.fixture
def adas(catalogue: Catalogue) -> Catalogue:
    """A catalogue with something of Ada's, and nothing else."""
    add(catalogue, ADA, "secret", ["secret of ada"], added_by=1, content_hash="same")
    catalogue.note_refusal(ADA, "file:x", "x", "", 0, 0, "DocumentEmpty", "is empty")
    return catalogue


@pytest.mark.parametrize("reading", READINGS)
def test_ada_reads_what_is_hers(adas: Catalogue, reading: str) -> None:
    assert READINGS[reading](adas, [ADA])
    assert READINGS[reading](adas, [owners.SHARED, ADA, "person:2"])


@pytest.mark.parametrize("reading", READINGS)
def test_nobody_else_reads_it(adas: Catalogue, reading: str) -> None:
    for readable in NOBODYS:
        assert not READINGS[reading](adas, readable), readable


def test_an_owner_of_any_name_has_their_own(adas: Catalogue) -> None:
    for hostile in [owner for names in NOBODYS for owner in names if owner] + ["1:1", "a" * 10_000]:
        kept = add(adas, hostile, "secret", ["secret of another"], added_by=1)
        assert found(adas, "secret", [hostile]) == ["secret of another"]
        assert list(adas.chunks(list(range(1000)), [hostile])) == ids(adas, kept)
        assert adas.remove_of(hostile) == 1
        assert found(adas, "secret", [ADA, hostile]) == ["secret of ada"]


def test_what_another_has_moves_no_count_no_score_and_no_order(catalogue: Catalogue) -> None:
    add(catalogue, owners.SHARED, "rules", ["secret door", "open door", "the door of ada"])
    add(catalogue, "person:2", "mine", ["secret garden", "door"])
    terms = ["secret", "door", "of", "ada", "nowhere"]
    for readable in ([owners.SHARED], [owners.SHARED, "person:2"], ["person:2"], ["person:3"]):
        before = catalogue.document_frequencies(terms, readable), catalogue.search_words(terms, readable, 10)
        add(catalogue, ADA, "secret", ["secret of ada", *(f"nowhere is a secret door {n}" for n in range(40))])
        assert (catalogue.document_frequencies(terms, readable), catalogue.search_words(terms, readable, 10)) == before
        catalogue.remove_of(ADA)
        assert (catalogue.document_frequencies(terms, readable), catalogue.search_words(terms, readable, 10)) == before


def test_owners_whose_numbers_begin_alike_are_kept_apart(catalogue: Catalogue) -> None:
    for number in range(1, 31):
        add(catalogue, owners.person(number), "d", [f"word {number}"])
    for number in range(1, 31):
        assert found(catalogue, "word", [owners.person(number)]) == [f"word {number}"]


def test_the_same_document_of_two_is_two(catalogue: Catalogue) -> None:
    mine, theirs = (add(catalogue, owner, "same", ["word"]) for owner in (ADA, "person:2"))
    assert mine.id != theirs.id
    assert catalogue.remove_of(ADA) == 1
    assert texts(catalogue, theirs) == ["word"]
    assert found(catalogue, "word", [ADA, "person:2"]) == ["word"]
