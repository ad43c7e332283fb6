"""Cross-encoders that look at passages a second time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from knowledge.errors import EmbeddingsFailed
from knowledge.rerank import Reranker, open_reranker
from settings import Knowledge, Settings

TEXTS = ["the cat sat on the mat", "dog", "", "the dog ran far away", "猫坐", "the " * 500]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.knowledge.embedding.tiny import save_reranker

    return save_reranker(tmp_path_factory.mktemp("models") / "tiny-reranker")


@pytest.fixture(scope="module")
def reranker(folder: Path) -> Reranker:
    found = open_reranker(Settings(knowledge=Knowledge(reranker=str(folder))))
    assert found is not None
    return found


def test_none_is_named_by_default() -> None:
    assert open_reranker(Settings(knowledge=Knowledge())) is None


def test_each_text_has_its_own_score_between_zero_and_one_in_its_place(reranker: Reranker) -> None:
    scores = reranker.score("where did the cat sit", TEXTS)
    assert len(scores) == len(TEXTS)
    assert all(0 <= score <= 1 for score in scores)
    assert len(set(scores)) > 1
    assert reranker.score("where did the cat sit", TEXTS[::-1]) == pytest.approx(scores[::-1], abs=1e-5)


def test_scores_are_those_of_the_model(reranker: Reranker, folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        given = tokenizer(["the cat"] * 2, ["the mat", "dog"], padding=True, return_tensors="pt")
        expected = model(**given).logits.sigmoid().flatten().tolist()
    assert reranker.score("the cat", ["the mat", "dog"]) == pytest.approx(expected, abs=1e-5)


def test_it_depends_on_the_question(reranker: Reranker) -> None:
    assert reranker.score("the cat", ["the mat"]) != reranker.score("dog ran far", ["the mat"])


def test_no_texts_have_no_scores(reranker: Reranker) -> None:
    assert reranker.score("anything", []) == []


@pytest.mark.parametrize("strange", ["\ud800", "\x00", "😀" * 2000])
def test_any_text_can_be_scored(reranker: Reranker, strange: str) -> None:
    (score,) = reranker.score(strange, [strange])
    assert 0 <= score <= 1


def test_threads_share_it(reranker: Reranker) -> None:
    alone = reranker.score("the cat", TEXTS)
    with ThreadPoolExecutor(4) as threads:
        for scores in threads.map(lambda _: reranker.score("the cat", TEXTS), range(8)):
            assert scores == pytest.approx(alone, abs=1e-5)


def test_a_classifier_of_several_classes_is_refused(tmp_path: Path) -> None:
    from tests.knowledge.embedding.tiny import save_reranker

    with pytest.raises(EmbeddingsFailed, match="3 numbers"):
        Reranker(str(save_reranker(tmp_path / "classifier", labels=3)))


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(EmbeddingsFailed, match=r"knowledge\.reranker"):
        Reranker("/no/such/reranker")
