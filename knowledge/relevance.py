"""Does a passage answer the question at all? From 0 to 1, comparable from one question to the next.

The order of candidates cannot tell: some passage is always first. Two things can: the share of the question's words
that the passage holds, each weighted by how rare it is, and the cosine. Neither alone is enough: a logistic regression
over both separates questions with their article in the index from the same with it left out better than either, in
English and Chinese and for large and small indexes. `python -m bench.retrieval --relevance` fits it and prints that.

Between scripts (an English question, a Chinese text) hardly a word is shared, and cosines lie lower: there they are
judged on their own scale. They tell little, so only what scores high passes.

The cosines of another embedding model lie elsewhere. They are brought to the scale of the bundled one by what unrelated
and related texts score with either, which `familiar knowledge eval` measures and which is estimated until then.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from store.catalogue.catalogue import Catalogue

META = "relevance.calibration"

# Fitted on one half of the articles of SQuAD 1.1 dev and DRCD dev, in indexes of 30, 300 and all paragraphs.
# bench/retrieval.py --relevance fits anew, on all paragraphs, and shows both on the other half.
COVERED, COSINE, CONSTANT = 7.2, 43.2, -40.6
# Between scripts: the floor is at a cosine of .78. Of 35 English questions about DRCD's texts, 60% have a passage above
# it, and 29% of the same questions with their article left out.
CROSS_COSINE, CROSS_CONSTANT = 60.0, -47.65
# On the other half, 93% (SQuAD) and 96% (DRCD) of the questions' own paragraphs are above it, and for 10% of the
# questions some paragraph of another article is, among all of them; for 2% among 300.
FLOOR = 0.3
# Where there is no cosine: a third of the way from unrelated to related, so that words must show two thirds of the
# question. They tell less, and shall rather hide an answer than show what is none: of 400 questions each, 66% (SQuAD)
# and 36% (DRCD) have their own paragraph above the floor, 5.5% and none have one of another article.
ASSUMED_COSINE = 0.81
# The smallest index that the above was fitted on. Of fewer chunks, how many hold a word says little of how rare it is:
# of one chunk, what it does not hold would count twice what it holds, and hide an answer for one word of their own.
FEW = 30
SAMPLED = 256  # chunks whose vectors tell what unrelated texts score

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_LATIN = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class Calibration:
    """What `familiar knowledge eval` found out for one embedding model (and reranker) on these documents."""

    judge: str  # the models' ids; with others it says nothing
    floor: float
    unrelated: float  # cosine of a question to a passage of another document, on average
    related: float  # to the one it is about


# The bundled model's, on SQuAD and DRCD.
BUNDLED = Calibration(judge="multilingual-e5-small", floor=FLOOR, unrelated=0.778, related=0.876)


def weights(frequencies: Mapping[str, int], chunks: int) -> dict[str, float]:
    """How much each term of a question counts: the rarer, the more. A term of no document counts most."""
    chunks = max(chunks, FEW) if chunks else 0
    return {term: math.log(1 + chunks / (held + 0.5)) for term, held in frequencies.items()}


def covered(terms: Collection[str], weights: Mapping[str, float]) -> float:
    """The share of the question's terms that are among `terms`, by weight."""
    total = sum(weights.values())
    return sum(weight for term, weight in weights.items() if term in terms) / total if total > 0 else 0.0


def relevance(question: str, text: str, covered: float, cosine: float, calibration: Calibration = BUNDLED) -> float:
    """`covered`: the share of the question's words in the text."""
    cosine = _rescaled(cosine, calibration)
    if _mostly_han(question) != _mostly_han(text):
        return _logistic(COVERED * covered + CROSS_COSINE * cosine + CROSS_CONSTANT)
    return _logistic(COVERED * covered + COSINE * cosine + CONSTANT)


def by_words(covered: float) -> float:
    """Where there is no cosine. Between scripts nothing is expected of words, so there is no other scale for them."""
    return _logistic(COVERED * covered + COSINE * ASSUMED_COSINE + CONSTANT)


def in_force(catalogue: Catalogue, judge: str) -> Calibration | None:
    """What was measured here with this judge, else the bundled model's; None for another that was not measured."""
    measured = _saved(catalogue.get_meta(META))
    if measured and measured.judge == judge:
        return measured
    return BUNDLED if judge.startswith(BUNDLED.judge) else None


def estimated(catalogue: Catalogue, model_id: str, judge: str) -> Calibration:
    """For a model that was not measured: what unrelated texts score is seen in the index, related ones lie half way up.

    (With e5 they lie at .44 of the way.)
    """
    keys = catalogue.chunk_keys(limit=20 * SAMPLED)
    hashes = sorted({key[2] for key in keys})[:SAMPLED]  # by their hash: in no order that has a meaning
    stored = list(catalogue.vectors(hashes, model_id).values())
    if len(stored) < 2:
        return Calibration(judge, FLOOR, unrelated=0.3, related=0.65)
    vectors = np.stack(stored)
    cosines = vectors @ vectors.T
    count = len(vectors)
    unrelated = float((cosines.sum() - np.trace(cosines)) / (count * (count - 1)))
    return Calibration(judge, FLOOR, unrelated, related=(1 + unrelated) / 2)


def save(catalogue: Catalogue, calibration: Calibration) -> None:
    catalogue.set_meta(META, json.dumps(asdict(calibration)))


def _saved(text: str) -> Calibration | None:
    try:
        return Calibration(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None  # of a version that kept other things


def _rescaled(cosine: float, calibration: Calibration) -> float:
    if calibration.related - calibration.unrelated < 0.01:
        return cosine
    share = (cosine - calibration.unrelated) / (calibration.related - calibration.unrelated)
    return BUNDLED.unrelated + share * (BUNDLED.related - BUNDLED.unrelated)


def _mostly_han(text: str) -> bool:
    """A Chinese character says about as much as four letters."""
    sample = text[:2000]
    return 4 * len(_HAN.findall(sample)) > len(_LATIN.findall(sample))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, x))))
