"""What the vector index has still to do: everything that changed, once, in order, until it says that it is done."""

from __future__ import annotations

from typing import Any

import numpy as np

from store.catalogue.catalogue import Catalogue
from tests.store.catalogue.made import DIMENSIONS, MODEL, add, hash_of, ids, vector_of


def to_do(catalogue: Catalogue) -> list[tuple[Any, ...]]:
    return [(each.chunk_id, each.action, each.owner, each.hash) for each in catalogue.pending(1000)]


def finish(catalogue: Catalogue) -> None:
    catalogue.done([each.id for each in catalogue.pending(1000)])
    assert catalogue.pending_count() == 0


def test_a_new_chunk_is_to_be_put_and_a_removed_one_deleted(catalogue: Catalogue) -> None:
    kept = add(catalogue, "person:1", "m", ["a", "b"])
    first, second = ids(catalogue, kept)
    assert to_do(catalogue) == [
        (first, "put", "person:1", hash_of("a")),
        (second, "put", "person:1", hash_of("b")),
    ]
    finish(catalogue)
    catalogue.remove([kept.id])
    assert [each[:2] for each in to_do(catalogue)] == [(first, "delete"), (second, "delete")]


def test_only_the_difference_is_to_be_done(catalogue: Catalogue) -> None:
    old = ids(catalogue, add(catalogue, "shared", "m", ["a", "b", "c"]))
    finish(catalogue)
    new = ids(catalogue, add(catalogue, "shared", "m", ["c", "new", "a"]))
    assert sorted(each[:2] for each in to_do(catalogue)) == [(old[1], "delete"), (new[1], "put")]


def test_what_goes_before_it_was_put_is_only_to_be_deleted(catalogue: Catalogue) -> None:
    kept = add(catalogue, "shared", "m", ["a"])
    catalogue.remove([kept.id])
    assert [each[1] for each in to_do(catalogue)] == ["delete"]
    assert catalogue.pending_puts(["shared"], MODEL)[0].tolist() == []


def test_what_changed_while_the_index_was_at_it_is_not_crossed_out(catalogue: Catalogue) -> None:
    kept = add(catalogue, "shared", "m", ["a"])
    being_put = [each.id for each in catalogue.pending(10)]
    catalogue.remove([kept.id])
    catalogue.done(being_put)
    assert [each[1] for each in to_do(catalogue)] == ["delete"]


def test_it_is_read_in_parts(catalogue: Catalogue) -> None:
    add(catalogue, "shared", "m", [str(number) for number in range(10)])
    first = catalogue.pending(4)
    rest = catalogue.pending(100, after=first[-1].id)
    assert [each.id for each in [*first, *rest]] == sorted(each.id for each in catalogue.pending(100))
    assert (len(first), len(rest), catalogue.pending_count()) == (4, 6, 10)
    catalogue.done([each.id for each in first])
    catalogue.done([each.id for each in first])
    catalogue.done([])
    assert catalogue.pending(100) == rest


def test_a_number_is_never_used_again_when_the_outbox_was_empty(catalogue: Catalogue) -> None:
    add(catalogue, "shared", "m", ["a"])
    before = catalogue.pending(1)[0].id
    finish(catalogue)
    add(catalogue, "shared", "n", ["b"])
    assert catalogue.pending(1)[0].id > before


def test_what_is_not_in_the_index_yet_can_be_searched_without_it(catalogue: Catalogue) -> None:
    kept = add(catalogue, "person:1", "m", ["a", "b"])
    add(catalogue, "person:2", "n", ["a"])
    numbers, vectors = catalogue.pending_puts(["person:1"], MODEL)
    assert numbers.tolist() == ids(catalogue, kept)
    assert numbers.dtype == np.int64
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, [vector_of(hash_of("a")), vector_of(hash_of("b"))], atol=1e-3)
    catalogue.done([each.id for each in catalogue.pending(1)])
    assert catalogue.pending_puts(["person:1"], MODEL)[1].shape == (1, DIMENSIONS)
    for nothing in (catalogue.pending_puts([], MODEL), catalogue.pending_puts(["person:1"], "another model")):
        assert (nothing[0].shape, nothing[1].shape) == ((0,), (0, 0))


def test_every_chunk_is_told_for_a_new_index(catalogue: Catalogue) -> None:
    shared = add(catalogue, "shared", "m", ["a", "b", "c"])
    mine = add(catalogue, "person:1", "n", ["a"])
    expected = [(number, "shared", hash_of(text)) for number, text in zip(ids(catalogue, shared), "abc", strict=True)]
    expected += [(ids(catalogue, mine)[0], "person:1", hash_of("a"))]
    assert catalogue.chunk_keys() == expected
    assert catalogue.chunk_keys(limit=2) + catalogue.chunk_keys(after=expected[1][0]) == expected
    assert catalogue.chunk_keys(after=expected[-1][0]) == []
