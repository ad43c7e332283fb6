"""Chunks are found by their words: those that hold one and no others, the best first."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from store.catalogue import words
from store.catalogue.catalogue import Catalogue
from tests.store.catalogue.made import add, chunk, document, found, ids, put

TERMS = st.one_of(
    st.text(min_size=1, max_size=12),
    st.text(st.sampled_from("abAB01-_.'\"*:()^{}#~/\\+ÄäßſİıKk中文あ🙂\u0301\u200d\x1b\x7f"), min_size=1, max_size=6),
    st.sampled_from(["AND", "OR", "NOT", "NEAR", "words:a", "1:a", "1.2:a", "a" * 64, "a" * 65, "中" * 64, "中" * 500]),
).map(lambda text: "".join(text.split()))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """A catalogue that examples of a property are put into, each for an owner of its own."""
    return Catalogue(tmp_path_factory.mktemp("crowded")).open()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(held=st.lists(TERMS.filter(bool), min_size=1, max_size=8), asked=TERMS)
def test_a_term_is_found_where_it_stands_and_nowhere_else(crowded: Catalogue, held: list[str], asked: str) -> None:
    owner = f"person:{crowded.count([]) + random.getrandbits(60)}"
    put(crowded, [(document(owner, "d"), [chunk(str(number), words=term) for number, term in enumerate(held)])])
    for term in {*held, asked} - {""}:
        hits = {crowded.chunks([hit], [owner])[hit].text for hit, _ in crowded.search_words([term], [owner], 50)}
        assert hits == {str(number) for number, each in enumerate(held) if each == term}


@given(one=TERMS, other=TERMS)
def test_two_terms_are_never_one_token(one: str, other: str) -> None:
    assume(one != other)
    assert words.token_of(one) != words.token_of(other)


HOSTILE = [
    '"', '""', "'", '" OR 1:secret "', "secret*", "words:secret", "{words}:secret", "NOT", "NEAR(secret)", "^secret",
    "(", ")", "1:secret", "2:secret", ":secret", "x\x00secret", "-secret", "+", "secret OR", "", " ", "\n", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("term", HOSTILE)
def test_no_question_reaches_into_the_search_itself(catalogue: Catalogue, term: str) -> None:
    add(catalogue, "person:1", "a", ["secret"])
    add(catalogue, "person:2", "b", ["mine"])
    assert found(catalogue, "mine", ["person:2"]) == ["mine"]
    for readable in (["person:2"], ["person:1", "person:2"]):
        assert catalogue.search_words([term], readable, 50) == []
        assert catalogue.search_words([f"{term}mine", f"mine{term}", "mine"], readable, 50) != []


def test_terms_that_look_like_a_query_are_found_where_they_stand(catalogue: Catalogue) -> None:
    add(catalogue, "person:1", "a", ["secret"])
    terms = [term for term in ("".join(each.split()) for each in HOSTILE) if term]
    put(catalogue, [(document("person:2", "b"), [chunk(term, words=term) for term in terms])])
    for number, term in enumerate(terms):
        hits = catalogue.search_words([term], ["person:1", "person:2"], 50)
        assert [catalogue.chunks([hit], ["person:2"])[hit].position for hit, _ in hits] == [number]


def bm25(texts: Sequence[str], terms: Sequence[str]) -> dict[str, float]:
    """As in the book, but for the counting that ends at some time."""
    bags = {text: Counter(text.split()) for text in texts}
    mean = sum(bag.total() for bag in bags.values()) / len(bags)
    scores = {}
    for text, bag in bags.items():
        score = 0.0
        for term in set(terms):
            with_term = sum(1 for each in bags.values() if term in each)
            weight = math.log(1 + (len(bags) - with_term + 0.5) / (with_term + 0.5))
            count = min(bag[term], words.COUNTED)
            score += weight * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * bag.total() / mean))
        scores[text] = score
    return {text: score for text, score in scores.items() if score > 0}


def test_the_scores_are_bm25(catalogue: Catalogue) -> None:
    chance = random.Random(4)
    vocabulary = [f"w{number}" for number in range(40)]
    frequent_first = [1 / (rank + 1) for rank in range(40)]
    texts = [
        f"t{number} " + " ".join(chance.choices(vocabulary, frequent_first, k=chance.randint(0, 30)))
        for number in range(300)
    ]
    for number in range(10):
        add(catalogue, "shared" if number % 3 else "person:1", str(number), texts[number::10])
    for _ in range(20):
        terms = chance.choices(vocabulary, k=chance.randint(1, 8))
        expected = bm25(texts, terms)
        hits = catalogue.search_words(terms, ["shared", "person:1"], 1000)
        kept = catalogue.chunks([hit for hit, _ in hits], ["shared", "person:1"])
        assert {kept[hit].text: score for hit, score in hits} == pytest.approx(expected)
        assert [score for _, score in hits] == pytest.approx(sorted(expected.values(), reverse=True))
        assert hits[:7] == catalogue.search_words(terms, ["shared", "person:1"], 7)


def test_more_occurrences_than_are_counted_are_no_mistake(catalogue: Catalogue) -> None:
    many = "again " * 200
    kept = add(catalogue, "shared", "m", [many, "again once"])
    assert [hit for hit, _ in catalogue.search_words(["again"], ["shared"], 5)] == ids(catalogue, kept)
    assert catalogue.remove([kept.id]) == 1
    assert catalogue.document_frequencies(["again"], ["shared"]) == ({"again": 0}, 0)
    assert catalogue.check() == []


def test_frequent_terms_wait_behind_rare_ones(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "ROWS_PER_SEARCH", 20)
    add(catalogue, "shared", "m", [f"the {number} {'whale' if number in (7, 8) else 'fish'}" for number in range(100)])
    assert found(catalogue, "the whale 8", ["shared"]) == ["the 8 whale", "the 7 whale"]
    assert len(found(catalogue, "the", ["shared"], limit=1000)) == 100, "alone, it is what was asked for"


def test_a_whole_page_as_a_question_is_looked_for_by_its_rarest_words(catalogue: Catalogue) -> None:
    add(catalogue, "shared", "m", [f"w{number} common" for number in range(300)])
    page = [f"w{number}" for number in range(100)] + [f"unknown{number}" for number in range(20_000)] + ["common"]
    assert len(catalogue.search_words(page, ["shared"], 500)) == words.TERMS_PER_SEARCH


def test_frequencies_follow_what_comes_and_goes(catalogue: Catalogue) -> None:
    first = add(catalogue, "shared", "a", ["cat cat", "cat dog"])
    add(catalogue, "person:1", "b", ["cat", "中文"])
    both = ["shared", "person:1"]
    assert catalogue.document_frequencies(["cat", "dog", "中文", "cow", "Cat", ""], both) == (
        {"cat": 3, "dog": 1, "中文": 1, "cow": 0, "Cat": 0, "": 0},
        4,
    )
    add(catalogue, "shared", "a", ["cat dog", "cow"])
    assert catalogue.document_frequencies(["cat", "dog", "cow"], both) == ({"cat": 2, "dog": 1, "cow": 1}, 4)
    assert catalogue.document_frequencies(["cat"], ["person:1"]) == ({"cat": 1}, 2)
    catalogue.remove([first.id])
    assert catalogue.document_frequencies(["cat", "dog"], both) == ({"cat": 1, "dog": 0}, 2)
    assert catalogue.document_frequencies([], both) == ({}, 2)
    assert catalogue.document_frequencies(["cat"], []) == ({"cat": 0}, 0)


def test_what_others_have_moves_no_score(catalogue: Catalogue) -> None:
    add(catalogue, "person:1", "mine", ["alpha beta", "alpha gamma gamma", "delta"])
    before = catalogue.search_words(["alpha", "gamma"], ["person:1"], 10)
    add(catalogue, "person:2", "theirs", ["gamma"] + [f"gamma gamma {number}" for number in range(30)])
    assert catalogue.search_words(["alpha", "gamma"], ["person:1"], 10) == before


def test_somebody_with_one_document_finds_it_among_many_shared(catalogue: Catalogue) -> None:
    add(catalogue, "shared", "all", [f"report number {number}" for number in range(50)])
    add(catalogue, "person:1", "mine", ["report of my holiday"])
    assert found(catalogue, "holiday report", ["shared", "person:1"])[0] == "report of my holiday"


def test_many_owners_may_be_read_at_once(catalogue: Catalogue) -> None:
    groups = [f"group:telegram:{number}" for number in range(600)]
    put(catalogue, [(document(group, "d"), [chunk(f"notes of {group}", words="notes")]) for group in groups])
    assert len(catalogue.search_words(["notes"], groups, 1000)) == 600
    assert len(catalogue.search_words(["notes"], groups[:599], 1000)) == 599


def test_a_chunk_without_words_is_kept_and_not_found(catalogue: Catalogue, folder: Path) -> None:
    kept = put(catalogue, [(document("shared", "d"), [chunk("!!!", words=""), chunk("a", words="a")])])[0]
    assert found(catalogue, "a", ["shared"]) == ["a"]
    assert catalogue.chunk_count(["shared"]) == 2
    catalogue.remove([kept.id])
    assert catalogue.check() == []


def test_the_order_does_not_change_from_one_time_to_the_next(catalogue: Catalogue) -> None:
    kept = add(catalogue, "shared", "d", [f"same {number}" for number in range(1000)])
    hits = [hit for hit, _ in catalogue.search_words(["same"], ["shared"], 10)]
    assert hits == ids(catalogue, kept)[:10]
    assert catalogue.search_words(["same"], ["shared"], 0) == []
