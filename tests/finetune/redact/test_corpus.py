"""What `python -m bench.redaction` prints, held to floors: nothing gets worse unseen."""

from __future__ import annotations

import pytest

from bench.redaction import Item, Result, Span, corpus, measured, ours, presidio
from finetune.redact import Redactor
from finetune.redact.findings import KINDS


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return corpus()


@pytest.fixture(scope="module")
def result(redactor: Redactor, items: list[Item]) -> Result:
    return measured(ours(redactor), items)


def test_the_corpus_has_every_kind_in_both_languages_and_as_many_texts_that_only_look_personal(
    items: list[Item],
) -> None:
    assert len(items) >= 500
    assert {(each.kind, item.language) for item in items for each in item.marked} == {
        (kind, language) for kind in KINDS for language in ("en", "zh")
    }
    assert sum(len(item.marked) for item in items) >= 300
    assert sum(not item.marked for item in items) >= 200


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_in_each_language(result: Result, kind: str, language: str) -> None:
    assert result.tallies[kind, language].recall >= 0.9
    assert result.tallies[kind, language].precision >= 0.9


def test_nearly_all_values_are_found_and_nearly_no_text_is_changed_without_need(result: Result) -> None:
    for language in ("en", "zh"):
        assert result.tallies["ALL", language].recall >= 0.98
        assert result.tallies["ALL", language].precision >= 0.98
    assert result.alarms <= 2


def test_it_finds_far_more_than_presidio_as_it_comes_and_mistakes_less(items: list[Item], result: Result) -> None:
    theirs = measured(presidio(), items)
    for language in ("en", "zh"):
        assert result.tallies["ALL", language].recall > theirs.tallies["ALL", language].recall + 0.3
        assert result.tallies["ALL", language].precision > theirs.tallies["ALL", language].precision
    assert result.alarms < theirs.alarms


def test_a_value_of_which_a_part_is_left_counts_as_missed() -> None:
    item = Item("mail a@example.com", "en", (), (Span(5, 18, "EMAIL"),))
    partly = measured(lambda _: [Span(5, 12, "EMAIL")], [item])
    assert partly.tallies["EMAIL", "en"].recall == 0
    assert partly.tallies["EMAIL", "en"].precision == 1
    wholly = measured(lambda _: [Span(5, 12, "EMAIL"), Span(12, 18, "NAME")], [item])
    assert wholly.tallies["EMAIL", "en"].recall == 1


def test_a_finding_where_nothing_is_marked_counts_against_precision() -> None:
    result = measured(lambda _: [Span(0, 4, "NAME")], [Item("some text", "en", (), ())])
    assert result.tallies["NAME", "en"].precision == 0
    assert result.alarms == 1
    assert "mistook NAME: 'some'" in result.errors[0]


def test_all_values_are_of_example_domains_reserved_ranges_or_places_that_do_not_exist(items: list[Item]) -> None:
    """Nobody's mail, no address in use: what can be told from a value is."""
    for item in items:
        for each in item.marked:
            value = item.text[each.start : each.end].lower()
            if each.kind == "EMAIL":
                reserved = ("example", "ｅｘａｍｐｌｅ", ".local")
                assert any(name in value for name in reserved), value
            if each.kind == "IP":
                assert value.startswith(("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:", "2001:0db8:")), value
            if each.kind == "MAC":
                assert value.replace("-", ":").startswith("00:00:5e:00:53:"), value
            if each.kind == "IDENTITY" and len(value) >= 15 and value[:6].isdigit():
                assert "99" in (value[2:4], value[4:6]), value  # a city or county that does not exist
