"""Documents come in, are found again, get another name, are replaced and go."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from store.catalogue.catalogue import Catalogue
from store.catalogue.errors import VectorsMissing
from store.errors import AlreadyThere, NotFound
from tests.store.catalogue.made import MODEL, add, chunk, document, found, ids, put, texts, vector_of


def test_a_document_comes_back_as_it_was_put(catalogue: Catalogue) -> None:
    given = document(
        "person:7",
        "报告 📄.pdf",
        title="Annual 年度报告",
        pages=12,
        added_by=7,
        size=2**40,
        mtime_ns=2**62,
        notes=("page 3 is a picture", "第四页"),
    )
    before = datetime.now(UTC)
    kept = put(catalogue, [(given, [chunk("one"), chunk("two")])])[0]
    assert {**asdict(kept), **asdict(given)} == asdict(kept)
    assert kept.chunks == 2
    assert before <= kept.added_at == kept.updated_at <= datetime.now(UTC)
    assert catalogue.document(kept.id) == kept


def test_a_chunk_comes_back_with_where_it_stands(catalogue: Catalogue) -> None:
    chunks = [chunk("first"), chunk("second 第二", heading="A > B", page=3, page_end=4)]
    kept = put(catalogue, [(document("shared", "manual"), chunks)])[0]
    second = catalogue.chunks_of(kept.id)[1]
    assert (second.document_id, second.position, second.text, second.heading) == (kept.id, 1, "second 第二", "A > B")
    assert (second.page, second.page_end, second.tokens, second.hash) == (3, 4, 2, chunks[1].hash)
    assert (second.owner, second.title, second.name, second.source) == ("shared", "Manual", "manual", "file:manual")
    assert catalogue.chunks([second.id], ["shared"]) == {second.id: second}


def test_many_documents_come_in_together_or_none_does(catalogue: Catalogue) -> None:
    whole = (document("shared", "whole"), [chunk("alpha")])
    catalogue.put_vectors(MODEL, {whole[1][0].hash: vector_of(whole[1][0].hash)})
    without_vector = (document("shared", "other"), [chunk("beta"), chunk("beta")])
    with pytest.raises(VectorsMissing) as raised:
        catalogue.put([whole, without_vector], MODEL)
    assert raised.value.hashes == (without_vector[1][0].hash,)
    assert catalogue.count(["shared"]) == 0
    assert found(catalogue, "alpha beta", ["shared"]) == []
    assert catalogue.pending_count() == 0
    assert [each.name for each in put(catalogue, [whole, without_vector])] == ["whole", "other"]


def test_vectors_of_another_model_do_not_count(catalogue: Catalogue) -> None:
    only = chunk("alpha")
    catalogue.put_vectors("another model", {only.hash: vector_of(only.hash)})
    with pytest.raises(VectorsMissing):
        catalogue.put([(document("shared", "a"), [only])], MODEL)


def test_a_new_state_takes_the_place_of_the_old(catalogue: Catalogue) -> None:
    old = add(catalogue, "shared", "manual", ["kept", "dropped"], added_by=1)
    other = add(catalogue, "person:1", "manual", ["theirs"])
    new = add(catalogue, "shared", "manual", ["kept", "added"], title="Newer", added_by=2)
    assert (new.id, new.added_at) == (old.id, old.added_at)
    assert new.updated_at > old.updated_at
    assert (new.title, new.added_by, new.chunks) == ("Newer", 2, 2)
    assert texts(catalogue, new) == ["kept", "added"]
    assert found(catalogue, "dropped", ["shared"]) == []
    assert texts(catalogue, other) == ["theirs"]


def test_a_chunk_that_stays_keeps_its_number_wherever_it_moves(catalogue: Catalogue) -> None:
    old = ids(catalogue, add(catalogue, "shared", "m", ["a", "b", "c"]))
    new = put(catalogue, [(document("shared", "m"), [chunk("c", page=9, page_end=9), chunk("new"), chunk("a")])])[0]
    kept = catalogue.chunks_of(new.id)
    assert [kept[0].id, kept[2].id] == [old[2], old[0]]
    assert kept[0].page == 9
    assert kept[1].id > max(old)


def test_the_same_chunk_may_stand_in_a_document_more_than_once(catalogue: Catalogue) -> None:
    three = add(catalogue, "shared", "m", ["again", "again", "other", "again"])
    first, second, other, _ = ids(catalogue, three)
    two = add(catalogue, "shared", "m", ["other", "again", "again"])
    assert ids(catalogue, two) == [other, first, second]
    assert found(catalogue, "again", ["shared"]) == ["again", "again"]
    assert catalogue.check() == []


def test_a_document_put_twice_at_once_is_the_later(catalogue: Catalogue) -> None:
    both = put(catalogue, [(document("shared", "m"), [chunk("early")]), (document("shared", "m"), [chunk("late")])])
    assert both[0] == both[1]
    assert texts(catalogue, both[0]) == ["late"]
    assert found(catalogue, "early", ["shared"]) == []


def test_a_document_may_lose_all_its_chunks(catalogue: Catalogue) -> None:
    add(catalogue, "shared", "m", ["a", "b"])
    emptied = add(catalogue, "shared", "m", [])
    assert (emptied.chunks, texts(catalogue, emptied), catalogue.chunk_count()) == (0, [], 0)


def test_the_number_of_a_chunk_is_never_given_again(catalogue: Catalogue) -> None:
    gone = add(catalogue, "shared", "m", ["a", "b"])
    numbers = ids(catalogue, gone)
    catalogue.remove([gone.id])
    again = add(catalogue, "shared", "m", ["a", "b"])
    assert min(ids(catalogue, again)) > max(numbers)
    assert again.id > gone.id


def test_a_renamed_document_keeps_its_chunks(catalogue: Catalogue) -> None:
    old = add(catalogue, "shared", "m", ["a"])
    pending = catalogue.pending(10)
    new = catalogue.rename(old.id, "folder:b/n.md", "n.md", "N", 77)
    assert (new.id, new.source, new.name, new.title, new.mtime_ns) == (old.id, "folder:b/n.md", "n.md", "N", 77)
    assert new.updated_at > old.updated_at
    assert catalogue.chunks_of(new.id)[0].title == "N"
    assert catalogue.pending(10) == pending


def test_a_document_is_not_renamed_over_another(catalogue: Catalogue) -> None:
    add(catalogue, "shared", "taken", ["a"])
    document_id = add(catalogue, "shared", "m", ["b"]).id
    with pytest.raises(AlreadyThere):
        catalogue.rename(document_id, "file:taken", "taken", "Taken", 1)
    assert catalogue.document(document_id).source == "file:m"
    with pytest.raises(NotFound):
        catalogue.rename(document_id + 1, "file:x", "x", "X", 1)


def test_a_touched_document_has_a_new_time_and_no_other_change(catalogue: Catalogue) -> None:
    old = add(catalogue, "shared", "m", ["a"])
    catalogue.touch(old.id, 99)
    assert asdict(catalogue.document(old.id)) == asdict(old) | {"mtime_ns": 99}


def test_what_is_not_there_is_not_found(catalogue: Catalogue) -> None:
    for number in (1, 0, -1, 10**30):
        with pytest.raises(NotFound):
            catalogue.document(number)
    assert catalogue.chunks([1, -1, 2**62], ["shared"]) == {}
    assert catalogue.chunks_of(1) == []
    assert catalogue.remove([1, 2]) == 0
    assert catalogue.remove([]) == 0
    assert catalogue.put([], MODEL) == []


def test_neighbours_are_in_order_and_of_the_same_document(catalogue: Catalogue) -> None:
    kept = add(catalogue, "shared", "m", list("abcde"))
    add(catalogue, "shared", "n", list("vwxyz"))
    assert [each.text for each in catalogue.neighbours(kept.id, 1, 3)] == ["b", "c", "d"]
    assert [each.text for each in catalogue.neighbours(kept.id, -5, 0)] == ["a"]
    assert catalogue.neighbours(kept.id, 3, 1) == []


def test_documents_are_listed_newest_first_and_by_who_added_them(catalogue: Catalogue) -> None:
    for name, owner, added_by in (("a", "shared", None), ("b", "group:x:1", 7), ("c", "shared", 7)):
        add(catalogue, owner, name, [name], added_by=added_by)
    everywhere = ["shared", "group:x:1"]
    assert [each.name for each in catalogue.documents(everywhere)] == ["c", "b", "a"]
    assert [each.name for each in catalogue.documents(everywhere, added_by=7)] == ["c", "b"]
    assert [each.name for each in catalogue.documents(["shared"], added_by=7)] == ["c"]
    assert [each.name for each in catalogue.added_by(7)] == ["c", "b"]
    assert catalogue.documents(everywhere, added_by=8) == catalogue.added_by(8) == []


@pytest.mark.parametrize("prefix", ["folder:", "folder:a%", "folder:a_", "folder:'", "folder:数"])
def test_a_sources_beginning_is_meant_letter_by_letter(catalogue: Catalogue, prefix: str) -> None:
    sources = [
        "folder:",
        "folder:a%b",
        "folder:a_b",
        "folder:axb",
        "folder:'x",
        "folder:数据",
        "Folder:a",
        "url:folder:",
    ]
    for number, source in enumerate(sources):
        add(catalogue, "shared", str(number), [], source=source)
    assert set(catalogue.by_source("shared", prefix)) == {each for each in sources if each.startswith(prefix)}


def test_documents_are_found_by_their_content(catalogue: Catalogue) -> None:
    first = add(catalogue, "shared", "a", ["x"], content_hash="same")
    second = add(catalogue, "shared", "b", ["x"], content_hash="same")
    add(catalogue, "person:1", "c", ["x"], content_hash="same")
    assert catalogue.with_content("shared", "same") == [first, second]
    assert catalogue.with_content("shared", "other") == []


def test_a_refusal_is_remembered_until_the_document_comes_in(catalogue: Catalogue) -> None:
    for reason in ("is encrypted", "is damaged"):
        catalogue.note_refusal("shared", "folder:a.pdf", "a.pdf", "f00", 5, 10, "DocumentDamaged", reason)
    catalogue.note_refusal("person:1", "file:b", "b", "", 0, 0, "DocumentEmpty", "is empty")
    refusal = catalogue.refusals("shared")["folder:a.pdf"]
    assert (refusal.name, refusal.content_hash, refusal.mtime_ns, refusal.size) == ("a.pdf", "f00", 5, 10)
    assert (refusal.kind, refusal.reason) == ("DocumentDamaged", "is damaged")
    add(catalogue, "shared", "a.pdf", ["readable now"], source="folder:a.pdf")
    assert catalogue.refusals("shared") == {}
    assert list(catalogue.refusals("person:1")) == ["file:b"]
    catalogue.clear_refusal("person:1", "file:b")
    catalogue.clear_refusal("nobody", "file:b")
    assert catalogue.refusals("person:1") == {}


def test_text_that_no_database_takes_is_kept_as_nearly_as_it_can_be(catalogue: Catalogue) -> None:
    kept = add(catalogue, "shared", "half an emoji \ud83d.txt", ["a\x00b \udcff needle"], notes=("\ud800",))
    assert kept.name == "half an emoji \ufffd.txt"
    assert kept.notes == ("\ufffd",)
    assert texts(catalogue, kept) == ["a\ufffdb \ufffd needle"]
    assert found(catalogue, "a\x00b", ["shared"]) == texts(catalogue, kept)
    assert add(catalogue, "shared", "half an emoji \ud83d.txt", ["a\x00b \udcff needle"]).id == kept.id


def test_notes_of_others_rooms_are_kept(catalogue: Catalogue) -> None:
    assert catalogue.get_meta("embedding.model", "none") == "none"
    catalogue.set_meta("embedding.model", "e5")
    catalogue.set_meta("embedding.model", "e6 模型")
    assert catalogue.get_meta("embedding.model") == "e6 模型"


def test_every_change_moves_the_counter_and_reading_does_not(catalogue: Catalogue) -> None:
    kept = add(catalogue, "shared", "m", ["a"])
    counted = [catalogue.change_counter()]
    changes = (
        lambda: add(catalogue, "shared", "m", ["b"]),
        lambda: catalogue.touch(kept.id, 5),
        lambda: catalogue.done([each.id for each in catalogue.pending(10)]),
        lambda: catalogue.set_meta("x", "y"),
        lambda: catalogue.remove([kept.id]),
    )
    for change in changes:
        change()
        counted.append(catalogue.change_counter())
    assert counted == sorted(set(counted))
    found(catalogue, "a", ["shared"])
    catalogue.documents(["shared"])
    assert catalogue.change_counter() == counted[-1]
