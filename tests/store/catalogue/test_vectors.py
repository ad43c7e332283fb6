"""Vectors are kept by what they were made of and by which model, as long as a chunk needs them."""

from __future__ import annotations

import numpy as np
import pytest

from store.catalogue.catalogue import Catalogue
from tests.store.catalogue.made import DIMENSIONS, MODEL, add, hash_of, vector_of


def test_a_vector_comes_back_as_it_was_but_for_the_last_digits(catalogue: Catalogue) -> None:
    given = {hash_of(str(number)): vector_of(str(number)) for number in range(50)}
    catalogue.put_vectors(MODEL, given)
    kept = catalogue.vectors([*given, "unknown"], MODEL)
    assert set(kept) == set(given)
    for hash_, vector in kept.items():
        assert vector.dtype == np.float32
        assert vector @ given[hash_] == pytest.approx(1, abs=1e-3)
        assert np.abs(vector - given[hash_]).max() < 1e-3


def test_cosines_of_real_size_hardly_change(catalogue: Catalogue) -> None:
    """float16 is enough: at 384 dimensions the error of a cosine is far below what tells two passages apart."""
    chance = np.random.default_rng(0)
    given = chance.standard_normal((200, 384)).astype(np.float32)
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    catalogue.put_vectors("large", {str(number): vector for number, vector in enumerate(given)})
    kept = catalogue.vectors([str(number) for number in range(200)], "large")
    matrix = np.stack([kept[str(number)] for number in range(200)])
    assert np.abs(matrix @ given.T - given @ given.T).max() < 2e-4


def test_models_do_not_share_vectors(catalogue: Catalogue) -> None:
    catalogue.put_vectors("one", {"h": np.array([1, 0], np.float32)})
    catalogue.put_vectors("two", {"h": np.array([0, 1, 0], np.float32)})
    assert catalogue.vectors(["h"], "one")["h"].tolist() == [1, 0]
    assert catalogue.vectors(["h"], "two")["h"].tolist() == [0, 1, 0]
    assert catalogue.vectors(["h"], "three") == {}
    assert catalogue.missing_vectors(["h", "i", "h", "i"], "one") == ["i"]
    assert catalogue.missing_vectors(["b", "h", "a"], "three") == ["b", "h", "a"]
    assert catalogue.missing_vectors([], "one") == []


@pytest.mark.parametrize("bad", [[1.0, 0, 0], [1.0], [[1.0, 0]], [np.nan, 0], [np.inf, 0], [1e6, 0]])
def test_what_is_no_vector_of_the_model_is_refused_and_nothing_of_it_kept(catalogue: Catalogue, bad: object) -> None:
    catalogue.put_vectors("one", {"h": np.array([1, 0], np.float32)})
    with pytest.raises(ValueError, match="vector"):
        catalogue.put_vectors("one", {"good": np.array([1, 0], np.float32), "bad": np.array(bad, np.float32)})
    assert catalogue.missing_vectors(["h", "good", "bad"], "one") == ["good", "bad"]
    catalogue.put_vectors("one", {})


def test_a_vector_that_another_chunk_uses_stays(catalogue: Catalogue) -> None:
    mine = add(catalogue, "person:1", "a", ["same", "mine"])
    theirs = add(catalogue, "person:2", "b", ["same"])
    catalogue.remove([mine.id])
    assert catalogue.missing_vectors([hash_of("same"), hash_of("mine")], MODEL) == [hash_of("mine")]
    catalogue.remove([theirs.id])
    assert catalogue.missing_vectors([hash_of("same")], MODEL) == [hash_of("same")]


def test_a_chunk_that_is_changed_takes_its_vector_along(catalogue: Catalogue) -> None:
    add(catalogue, "shared", "a", ["old", "kept"])
    catalogue.put_vectors("another model", {hash_of("old"): vector_of("old")})
    add(catalogue, "shared", "a", ["new", "kept"])
    hashes = [hash_of(text) for text in ("old", "kept", "new")]
    assert catalogue.missing_vectors(hashes, MODEL) == hashes[:1]
    assert catalogue.missing_vectors(hashes[:1], "another model") == hashes[:1]


def test_vectors_that_nobody_came_for_are_swept_when_they_are_old(catalogue: Catalogue) -> None:
    add(catalogue, "shared", "a", ["used"])
    catalogue.put_vectors(MODEL, {"orphan": vector_of("orphan")})
    assert catalogue.sweep_vectors() == 0
    assert catalogue.sweep_vectors(older_than_s=0) == 1
    assert catalogue.missing_vectors(["orphan", hash_of("used")], MODEL) == ["orphan"]


def test_a_vector_put_again_is_young_again(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000.0)
    catalogue.put_vectors(MODEL, {"early": vector_of("early"), "again": vector_of("again")})
    monkeypatch.setattr("time.time", lambda: 5_000.0)
    catalogue.put_vectors(MODEL, {"again": vector_of("again")})
    assert catalogue.sweep_vectors() == 1
    assert catalogue.missing_vectors(["early", "again"], MODEL) == ["early"]


def test_more_hashes_than_a_statement_has_parameters(catalogue: Catalogue) -> None:
    hashes = [str(number) for number in range(300_000)]
    catalogue.put_vectors(MODEL, {"7": vector_of("7")})
    assert list(catalogue.vectors(hashes, MODEL)) == ["7"]
    assert len(catalogue.missing_vectors(hashes, MODEL)) == 299_999


def test_vectors_have_the_shape_that_was_put(catalogue: Catalogue) -> None:
    catalogue.put_vectors(MODEL, {"h": vector_of("h")})
    assert catalogue.vectors(["h"], MODEL)["h"].shape == (DIMENSIONS,)
