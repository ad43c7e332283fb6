from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.lexical import LONGEST, content_terms, query_terms, terms


def meets(question: str, text: str) -> bool:
    return bool(set(query_terms(question)) & set(terms(text)))


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("running", "he runs"),
        ("Tesla", "Tesla's inventions"),
        ("AB-1234", "part AB1234"),
        ("ab1234", "part AB-1234"),
        ("1234", "part AB-1234"),
        ("max_tokens", "maxTokens = 5"),
        ("tokens", "maxTokens = 5"),
        ("HTTP", "an HTTPServer"),
        ("email", "by e-mail"),
        ("john@example.com", "write to John@Example.com!"),
        ("example", "write to john@example.com"),
        ("3.5", "version 3.5 is out"),
        ("1000000", "1,000,000 people"),
        ("2024", "on 2024-05-01"),
        ("US", "the U.S. Army"),
        ("beyonce", "Beyoncé sang"),
        ("STRASSE", "die Straße"),
        ("ABC", "ＡＢＣ"),
        ("file", "a ﬁle"),
        ("C++", "written in C++"),
        ("AT&T", "a bill from AT&T"),
        ("亞洲協會", "1786年，亞洲協會在加爾各答舉行"),
        ("タワー", "東京タワー"),
        ("한국", "한국어는"),
        ("ไทย", "ภาษาไทย"),
        ("हिन्दी", "हिन्दी भाषा"),
        ("москва", "Москва"),
        ("𠮷野", "𠮷野家"),
    ],
)
def test_a_question_meets_the_text_that_says_the_same_in_another_form(question: str, text: str) -> None:
    assert meets(question, text)


@pytest.mark.parametrize(
    ("question", "text"),
    [("C++", "vitamin C"), ("C#", "C++"), ("3.5", "35 or 3 and 5"), ("亞洲", "亞熱帶，歐洲"), ("cat", "category")],
)
def test_different_things_do_not_meet(question: str, text: str) -> None:
    assert not meets(question, text)


def test_a_text_keeps_how_often_a_word_is_in_it() -> None:
    assert terms("Dogs like dogs. A dog!").count("dog") == 3


def test_a_question_loses_the_words_that_questions_are_made_of() -> None:
    assert query_terms("What is the name of the river in Berlin?") == ["name", "river", "berlin"]
    assert query_terms("請問北京的市長是誰？") == query_terms("北京的市長是")
    assert not set(query_terms("為什麼天空是藍色？")) & {"為什", "什麼"}


def test_a_question_of_nothing_else_keeps_them() -> None:
    assert query_terms("The Who") == ["the", "who"]
    assert query_terms("誰？") == ["誰"]
    assert content_terms("what was it?") == []


def test_a_question_has_each_term_once() -> None:
    assert query_terms("dog dogs DOG") == ["dog"]


def test_a_blob_without_spaces_becomes_a_term_of_bounded_length() -> None:
    assert all(len(term) <= LONGEST for term in terms("x" * 1_000_000))


@pytest.mark.parametrize("text", ["", " ", "!?…", "😀", "\x00", "\ud800", "'''", "--__--"])
def test_a_text_without_words_has_no_terms(text: str) -> None:
    assert terms(text) == query_terms(text) == []


@given(st.text(max_size=200))
def test_terms_of_any_text_can_be_stored_separated_by_spaces(text: str) -> None:
    found = terms(text)
    assert " ".join(found).split() == found
    assert set(query_terms(text)) <= set(found) or not found


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_text_holds_the_terms_of_its_lines(one: str, other: str) -> None:
    assert terms(f"{one}\n{other}") == terms(one) + terms(other)


def test_threads_stem_without_disturbing_each_other() -> None:
    words = [f"{stem}{suffix}" for stem in ("connect", "relat", "gener") for suffix in ("ed", "ing", "ions", "ional")]
    words = [f"{word}{chr(97 + n)}" for word in words for n in range(26)] + words
    alone = [terms(word) for word in words]
    results: list[list[list[str]]] = []

    def stem() -> None:
        from knowledge import lexical

        results.append([[lexical._stem(word)] for word in words])

    threads = [threading.Thread(target=stem) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 4
