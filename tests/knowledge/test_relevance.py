from __future__ import annotations

import numpy as np
import pytest

from knowledge import relevance
from knowledge.relevance import BUNDLED, Calibration, covered, in_force, weights
from store.catalogue.catalogue import Catalogue, NewChunk, NewDocument

E5 = "multilingual-e5-small/q4-int8/1"


def test_a_rare_word_that_is_missing_counts_more_than_a_common_one() -> None:
    counted = weights({"museum": 2, "open": 900}, 1000)
    assert covered({"museum"}, counted) > 0.8
    assert covered({"open"}, counted) < 0.2
    assert covered({"museum", "open", "more"}, counted) == pytest.approx(1)
    assert covered({"museum"}, {}) == 0


def test_words_are_weighed_also_where_the_index_is_tiny_or_empty() -> None:
    assert all(weight > 0 for weight in weights({"museum": 1, "open": 0}, 1).values())
    assert covered({"museum"}, weights({"museum": 0}, 0)) == 0


def test_relevance_grows_with_words_and_with_meaning() -> None:
    def judged(share: float, cosine: float) -> float:
        return relevance.relevance("When is it open?", "It is open daily.", share, cosine)

    assert judged(0.9, 0.87) > relevance.FLOOR > judged(0.2, 0.77)
    assert judged(0.5, 0.88) > judged(0.5, 0.80)
    assert judged(0.9, 0.82) > judged(0.3, 0.82)
    assert 0 <= judged(0, -1) <= judged(1, 1) <= 1


def test_between_scripts_a_high_cosine_is_enough_and_an_ordinary_one_is_not() -> None:
    def judged(cosine: float) -> float:
        return relevance.relevance("What is the retina made of?", "人類視網膜中的視杆細胞與視錐細胞。", 0.0, cosine)

    assert judged(0.80) > relevance.FLOOR > judged(0.75)
    assert relevance.relevance("What is the retina made of?", "Ships sail.", 0.0, 0.80) < relevance.FLOOR


def test_a_name_shared_between_scripts_helps() -> None:
    def judged(share: float) -> float:
        return relevance.relevance("AB-1234 是什麼？請告訴我它的用途", "AB-1234 is a printer.", share, 0.75)

    assert judged(1.0) > relevance.FLOOR > judged(0.0)


def test_without_a_cosine_two_thirds_of_the_words_must_be_there() -> None:
    assert relevance.by_words(1.0) > relevance.by_words(0.7) > relevance.FLOOR > relevance.by_words(0.6)
    assert relevance.by_words(1.0) < relevance.relevance("When is it open?", "It is open.", 1.0, BUNDLED.related)
    assert relevance.by_words(0.0) < 0.01


def test_cosines_of_another_model_are_judged_on_their_own_scale() -> None:
    other = Calibration("other", 0.3, unrelated=0.1, related=0.6)
    assert relevance.relevance("q", "t", 0.5, 0.6, other) == pytest.approx(
        relevance.relevance("q", "t", 0.5, BUNDLED.related)
    )
    assert relevance.relevance("q", "t", 0.5, 0.1, other) < relevance.FLOOR


def test_the_bundled_model_has_a_floor_without_any_measurement(catalogue: Catalogue) -> None:
    assert in_force(catalogue, E5) == BUNDLED


def test_what_was_measured_is_in_force_for_the_model_it_was_measured_with(catalogue: Catalogue) -> None:
    relevance.save(catalogue, Calibration(E5, 0.42, 0.7, 0.8))
    assert in_force(catalogue, E5) == Calibration(E5, 0.42, 0.7, 0.8)
    assert in_force(catalogue, f"{E5}+reranker") == BUNDLED
    assert in_force(catalogue, "somebody/other") is None


@pytest.mark.parametrize("saved", ["{", "[]", '{"floor": 1}', '"x"', "null"])
def test_a_note_of_another_version_is_as_if_there_were_none(catalogue: Catalogue, saved: str) -> None:
    catalogue.set_meta(relevance.META, saved)
    assert in_force(catalogue, E5) == BUNDLED


def test_an_unknown_model_is_estimated_from_what_unrelated_texts_score_in_the_index(catalogue: Catalogue) -> None:
    vectors = np.random.default_rng(0).normal(0, 0.3, (40, 16)).astype(np.float32)
    vectors[:, 0] = 1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = [NewChunk(f"text {n}", "", None, None, f"{n:064}", 2, f"text {n}") for n in range(40)]
    catalogue.put_vectors("other", {chunk.hash: vector for chunk, vector in zip(chunks, vectors, strict=True)})
    catalogue.put([(NewDocument("shared", "file:1", "n", "t", "text", "", "c", 1, 0, None, "", None), chunks)], "other")
    seen = relevance.estimated(catalogue, "other", "other")
    cosines = vectors @ vectors.T
    assert seen.unrelated == pytest.approx(cosines[~np.eye(40, dtype=bool)].mean(), abs=0.01)
    assert seen.unrelated < seen.related < 1


def test_an_empty_index_gives_an_estimate_too(catalogue: Catalogue) -> None:
    assert 0 < relevance.estimated(catalogue, "other", "other").unrelated < 1


def test_with_one_document_a_word_that_it_lacks_counts_little_more_than_one_that_it_holds() -> None:
    few = relevance.weights({"quiet": 1, "hour": 1, "start": 0}, chunks=1)
    assert relevance.covered({"quiet", "hour"}, few) > 0.59
    many = relevance.weights({"quiet": 1, "hour": 1, "start": 0}, chunks=10_000)
    assert relevance.covered({"quiet", "hour"}, many) == pytest.approx(
        relevance.covered({"quiet", "hour"}, few), abs=0.05
    )
