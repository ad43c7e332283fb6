"""Is a reply one that people will rate up? A small head that learns it from their ratings.

Question and reply are embedded by the bundled embedding model, and a logistic regression reads both vectors, how they
differ and agree, and what can be counted (length, loops, refusals). It is measured by
cross-validation in which no conversation is on both sides, beside the guess that is always the commoner verdict. With
few ratings, or ratings that follow nothing in the text, it is no better than any guess, and `Scores` says so by the
balanced accuracy: good and bad replies count alike, so that whatever is said without looking is right in half of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from finetune import degenerate
from finetune.errors import DataRefused, NotEnoughData
from finetune.examples import Judged
from finetune.grounding import asked
from finetune.statistics import Estimate, paired

Array = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Array]  # (texts, dimensions), of unit length: Embedder.embed_passages

MIN_EACH = 20  # rated replies of each verdict
MIN_CONVERSATIONS = 10
FOLDS = 5
_REGULARISED = 0.3  # the inverse strength of scikit-learn; there are more features than ratings
_COUNTED = 4


@dataclass(frozen=True)
class Head:
    """Knows the replies of one kind of vectors only."""

    weights: Array  # (features,)
    constant: float

    def probability(self, features: Array) -> npt.NDArray[np.float64]:
        """That a reply is good, one a row. features: (replies, features)"""
        scores = features.astype(np.float64) @ self.weights + self.constant
        return np.asarray(0.5 * (1 + np.tanh(scores / 2)))

    def save(self, file: Path) -> None:
        with file.open("wb") as stream:
            np.savez(stream, weights=self.weights, constant=np.float64(self.constant))


def load(file: Path) -> Head:
    """Raises DataRefused."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            head = Head(saved["weights"].astype(np.float32), float(saved["constant"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise DataRefused(f"{file} is no saved head of reply quality: {error}") from error
    if head.weights.ndim != 1 or not np.isfinite(head.weights).all() or not math.isfinite(head.constant):
        raise DataRefused(f"{file} is no saved head of reply quality: its numbers are none.")
    return head


@dataclass(frozen=True)
class Scores:
    """Of replies in conversations that were not learnt from; "good" is what is looked for."""

    precision: float
    recall: float
    f1: float
    support: int  # good replies
    accuracy: float
    macro_f1: float
    commoner: float  # the accuracy of always saying what is commoner
    commoner_macro_f1: float
    balanced: Estimate  # balanced accuracy less 1/2, with its 95% interval over conversations
    ratings: int
    printed: str  # as scikit-learn prints it
    commoner_printed: str

    @property
    def better_than_a_guess(self) -> bool:
        return self.balanced.known and self.balanced.low > 0

    def said(self) -> str:
        share, low, high = (f"{0.5 + each:.1%}" for each in (self.balanced.mean, self.balanced.low, self.balanced.high))
        return (
            f"Macro F1 {self.macro_f1:.3f} on {self.ratings} rated replies, {self.commoner_macro_f1:.3f} for always "
            f"saying the commoner verdict. Good and bad counted alike, it is right in {share} ({low} to {high}), a "
            f"guess in 50%."
        )


def are_enough(judged: Sequence[Judged]) -> bool:
    """To learn from."""
    good, bad, conversations = _counts(judged)
    return min(good, bad) >= MIN_EACH and conversations >= MIN_CONVERSATIONS


def features(judged: Sequence[Judged], embed: Embed) -> Array:
    """(replies, features)"""
    questions = embed([_question(each) for each in judged])
    replies = embed([each.reply for each in judged])
    counted = np.array([_counted(each) for each in judged], np.float32).reshape(len(judged), _COUNTED)
    return np.concatenate([questions, replies, questions * replies, np.abs(questions - replies), counted], axis=1)


def learn(judged: Sequence[Judged], embed: Embed) -> Head:
    """Raises NotEnoughData."""
    _refuse_too_few(judged)
    return _fitted(features(judged, embed), *_verdicts(judged))


def evaluated(judged: Sequence[Judged], embed: Embed, *, seed: int = 0) -> Scores:
    """Each reply is scored by a head that learnt from other conversations. Raises NotEnoughData."""
    from sklearn.metrics import accuracy_score, classification_report
    from sklearn.model_selection import StratifiedGroupKFold

    _refuse_too_few(judged)
    seen = features(judged, embed)
    good, weights = _verdicts(judged)
    conversations = [each.source.conversation for each in judged]
    said = np.zeros(len(judged), bool)
    for learnt, held_out in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(
        seen, good, conversations
    ):
        if len(set(good[learnt])) < 2:  # all of one verdict stand in one conversation
            said[held_out] = good[learnt][0]
            continue
        said[held_out] = _fitted(seen[learnt], good[learnt], weights[learnt]).probability(seen[held_out]) >= 0.5
    given: dict[str, Any] = {"target_names": ["bad", "good"], "labels": [False, True], "zero_division": 0}
    report = classification_report(good, said, output_dict=True, **given)
    row = report["good"]
    commoner = np.full(len(good), good.mean() >= 0.5)
    shares = np.where(good, good.mean(), 1 - good.mean())  # of each reply's own verdict
    return Scores(
        float(row["precision"]),
        float(row["recall"]),
        float(row["f1-score"]),
        int(row["support"]),
        float(accuracy_score(good, said)),
        float(report["macro avg"]["f1-score"]),
        float(accuracy_score(good, commoner)),
        float(classification_report(good, commoner, output_dict=True, **given)["macro avg"]["f1-score"]),
        paired([0.5] * len(good), (said == good).tolist(), conversations, weights=(1 / shares).tolist()),
        len(judged),
        str(classification_report(good, said, digits=3, **given)),
        str(classification_report(good, commoner, digits=3, **given)),
    )


def _fitted(seen: Array, good: npt.NDArray[np.bool_], weights: Array) -> Head:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_REGULARISED, max_iter=1000, class_weight="balanced")
    model.fit(seen, good, sample_weight=weights)
    return Head(model.coef_[0].astype(np.float32), float(model.intercept_[0]))


def _verdicts(judged: Sequence[Judged]) -> tuple[npt.NDArray[np.bool_], Array]:
    return np.array([each.good for each in judged]), np.array([each.weight for each in judged], np.float32)


def _counts(judged: Sequence[Judged]) -> tuple[int, int, int]:
    """Good and bad replies, and conversations."""
    good = sum(each.good for each in judged)
    return good, len(judged) - good, len({each.source.conversation for each in judged})


def _refuse_too_few(judged: Sequence[Judged]) -> None:
    if are_enough(judged):
        return
    good, bad, conversations = _counts(judged)
    raise NotEnoughData(
        f"There are {good} replies rated up and {bad} rated down, in {conversations} conversations. It takes "
        f"{MIN_EACH} of each, in {MIN_CONVERSATIONS} conversations, to learn what people think of replies."
    )


def _question(judged: Judged) -> str:
    return next((asked(each["content"]) for each in reversed(judged.prompt) if each["role"] == "user"), "")


def _counted(judged: Judged) -> tuple[float, ...]:
    reply = judged.reply
    return (
        math.log1p(len(reply)) / 5,
        float(degenerate.looping(reply)),
        float(degenerate.refusal(reply)),
        float(degenerate.empty(reply)),
    )
