"""`python -m bench.retrieval --relevance` and `--follow-ups`: what two rules of the search rest on.

--relevance   fits the logistic regression of knowledge.relevance on one half of the articles, and shows on the other
              half how well words, cosine and both separate passages that answer from those that do not; and what is
              left of it between languages
--follow-ups  what `knowledge.followup` gains: questions shortened by rule to "And <question word> <last word>?" after
              another question about the same paragraph; and what it costs where the topic changed
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.retrieval import DEFAULT, SETS, SHARED, Corpus, Ours, Question, corpus, ours, rank_in, scores
from bench.running import heading
from knowledge import followup, fusion, lexical, relevance
from knowledge.search import CANDIDATES
from store.catalogue.catalogue import Chunk

Array = npt.NDArray[np.float64]
SCALE = np.array([1.0, 20.0])  # a regression converges when its features are of one size


@dataclass(frozen=True)
class Looked:
    """A candidate that a search looked at."""

    data: str
    question: str
    held_out: bool  # of an article that nothing is fitted on
    kind: str  # right: the question's paragraph; near: another of its article; wrong: of another article
    features: tuple[float, float]  # share of the question's words, cosine


def fit_relevance(questions: int, folder: Path) -> None:
    """Logistic regression on one half of the articles, shown on the other; the same for the weight of the fusion."""
    from sklearn.linear_model import LogisticRegression

    heading("Relevance: does a passage answer at all?")
    looked: list[Looked] = []
    for name in SETS:
        data = corpus(name, questions)
        with ours(folder / f"ours-{name}", data.paragraphs) as index:
            looked += [each for question in data.questions for each in looked_at(name, data, index, question)]
            show_weights(name, data, index)
    train = first_right_and_wrong([each for each in looked if not each.held_out])
    features, right = np.array([each.features for each in train]), np.array([each.kind == "right" for each in train])
    print("\nOn the other half of the articles, the best candidate of a question; its own article's or another's:")
    for label, columns in (("words", [0]), ("cosine", [1]), ("both", [0, 1])):
        scale = SCALE[columns]
        model = LogisticRegression(C=100, max_iter=1000).fit(features[:, columns] * scale, right)
        weights = np.zeros(2)
        weights[columns] = model.coef_[0] * scale
        show(label, looked, weights, float(model.intercept_[0]))
    show("shipped", looked, np.array([relevance.COVERED, relevance.COSINE]), relevance.CONSTANT)
    cross_language(folder)


def first_right_and_wrong(looked: Sequence[Looked]) -> list[Looked]:
    """Of each question that was found: its paragraph, and the best of other articles, which it would be without it."""
    first: dict[tuple[str, str, str], Looked] = {}
    for each in looked:
        first.setdefault((each.data, each.question, each.kind), each)
    both = [
        (first.get((data, question, "wrong")), each)
        for (data, question, kind), each in first.items()
        if kind == "right"
    ]
    return [each for wrong, right in both if wrong is not None for each in (right, wrong)]


def looked_at(name: str, data: Corpus, index: Ours, question: Question) -> Iterator[Looked]:
    weights = relevance.weights(*index.catalogue.document_frequencies(lexical.query_terms(question.text), SHARED))
    words, cosines, chunks = candidates(index, question.text)
    for chunk_id in list(fusion.convex(words, cosines, DEFAULT.dense_weight))[:10]:
        covered = relevance.covered(set(lexical.terms(chunks[chunk_id].text)), weights)
        paragraph = index.paragraph_of[chunks[chunk_id].document_id]
        own = data.articles[paragraph] == question.article
        kind = "right" if paragraph == question.paragraph else "near" if own else "wrong"
        yield Looked(name, question.id, question.article % 2 == 1, kind, (covered, cosines[chunk_id]))


def candidates(index: Ours, question: str) -> tuple[dict[int, float], dict[int, float], dict[int, Chunk]]:
    """BM25 of those that the lexical search found, the cosines of all, and the chunks."""
    vector = index.embedder.embed_queries([question])[0]
    dense = dict(index.vectors.search(vector, SHARED, CANDIDATES))
    words = dict(index.catalogue.search_words(lexical.query_terms(question), SHARED, CANDIDATES))
    chunks = index.catalogue.chunks([*{*dense, *words}], SHARED)
    stored = index.catalogue.vectors([chunk.hash for chunk in chunks.values()], index.embedder.id)
    return words, {chunk_id: float(stored[chunk.hash] @ vector) for chunk_id, chunk in chunks.items()}, chunks


def show(label: str, looked: Sequence[Looked], weights: Array, constant: float) -> None:
    print(f"{label}: {weights[0]:.2f} * words + {weights[1]:.2f} * cosine {constant:+.2f}")
    for name in SETS:
        best: dict[tuple[str, str], float] = {}
        for each in looked:
            if each.held_out and each.data == name:
                score = 1 / (1 + float(np.exp(-(weights @ each.features + constant))))
                best[each.kind, each.question] = max(score, best.get((each.kind, each.question), 0.0))
        of = {kind: np.array([s for (k, _), s in best.items() if k == kind]) for kind in ("right", "near", "wrong")}
        above = ", ".join(f"{kind} {(scored >= relevance.FLOOR).mean():.1%}" for kind, scored in of.items())
        print(
            f"  {name:<6} AUC {auc(of['right'], of['wrong']):.3f} right/wrong, {auc(of['right'], of['near']):.3f} "
            f"right/near; above {relevance.FLOOR}: {above}"
        )


def show_weights(name: str, data: Corpus, index: Ours) -> None:
    print(f"{name}: MRR@10 by dense_weight, for the half of the articles to choose on, and the other half")
    searched = [(question, *candidates(index, question.text)) for question in data.questions]
    for weight in (0.3, 0.4, 0.5, 0.6, 0.7):
        ranks: dict[int, list[int | None]] = {0: [], 1: []}
        for question, words, cosines, chunks in searched:
            order = [index.paragraph_of[chunks[i].document_id] for i in fusion.convex(words, cosines, weight)]
            ranks[question.article % 2].append(rank_in(list(dict.fromkeys(order)), question.paragraph))
        print(f"  {weight}: {scores(ranks[0])[3]:.4f}  {scores(ranks[1])[3]:.4f}")


def cross_language(folder: Path) -> None:
    data = corpus("DRCD", None)
    by_id = {question.id: question for question in data.questions}
    asked = json.loads((Path(__file__).parent / "cross_language.json").read_text(encoding="utf-8"))["questions"]
    ranks, right, wrong = [], [], []
    with ours(folder / "ours-DRCD", data.paragraphs) as index:
        for entry in asked:
            question = by_id[entry["id"]]
            found = index.searcher.search(entry["question"], SHARED, limit=20, floor=0.0).passages
            paragraphs = [index.paragraph_of[passage.document_id] for passage in found]
            ranks.append(rank_in(paragraphs, question.paragraph))
            right.append(max(passage.score for passage in found))
            wrong.append(
                max(p.score for p, n in zip(found, paragraphs, strict=True) if data.articles[n] != question.article)
            )
    r1, r5, r10, mrr = scores(ranks)
    floor = relevance.FLOOR
    print(
        f"\n{len(asked)} English questions about DRCD's Chinese texts: R@1 {r1:.3f}, R@5 {r5:.3f}, R@10 {r10:.3f}, "
        f"MRR@10 {mrr:.3f}; AUC {auc(np.array(right), np.array(wrong)):.3f}; above {floor}: "
        f"{np.mean(np.array(right) >= floor):.1%}, with the article left out {np.mean(np.array(wrong) >= floor):.1%}"
    )


# Follow-ups


def follow_ups(pairs: int, folder: Path) -> None:
    heading('Follow-ups: a question, then "And <question word> <last content word>?" about the same paragraph')
    print(f"{'':<8}{'searched for':<40}  R@1    R@5    R@10   MRR@10")
    for name in SETS:
        data = corpus(name, None)
        by_paragraph: dict[int, list[Question]] = {}
        for question in data.questions:
            by_paragraph.setdefault(question.paragraph, []).append(question)
        chance = random.Random(0)
        made = []
        for paragraph in chance.sample(sorted(by_paragraph), len(by_paragraph)):
            several = by_paragraph[paragraph]
            if (
                len(several) > 1
                and (short := elliptic(several[1].text))
                and not followup.needs_history(several[0].text)
            ):
                made.append((several[0], several[1], short))
        made = made[:pairs]
        others = chance.sample(data.questions, len(made))
        with ours(folder / f"ours-{name}", data.paragraphs) as index:
            ask(index, name, "the short question alone", [(short, (), one.paragraph) for one, _, short in made])
            ask(
                index,
                name,
                "with the question before (terms)",
                [(short, (one.text,), one.paragraph) for one, _, short in made],
            )
            ask(index, name, "the long question, in full", [(two.text, (), two.paragraph) for _, two, _ in made])
            ask(
                index,
                name,
                "long, after another topic",
                [(two.text, (other.text,), two.paragraph) for (_, two, _), other in zip(made, others, strict=True)],
            )
        noticed = sum(followup.needs_history(short) for _, _, short in made)
        leaning = sum(followup.needs_history(question.text) for question in data.questions)
        print(
            f"{name:<8}{noticed} of {len(made)} short ones noticed; "
            f"{leaning} of all {len(data.questions)} questions taken for follow-ups"
        )


def ask(index: Ours, name: str, label: str, asked: Sequence[tuple[str, Sequence[str], int]]) -> None:
    ranks = []
    for question, history, paragraph in asked:
        found = index.searcher.search(question, SHARED, history=history, limit=10, floor=0.0).passages
        ranks.append(rank_in([index.paragraph_of[passage.document_id] for passage in found], paragraph))
    print(f"{name:<8}{label:<40}  " + "  ".join(f"{score:.3f}" for score in scores(ranks)), flush=True)


def elliptic(question: str) -> str:
    """ "And when signed?" of "In which year was the Dayton Agreement signed?"; 那「締結」呢？ of a Chinese one."""
    words = question.rstrip("?？ .。").split()
    if len(words) == 1:
        return f"那{question.rstrip('?？ 。')[-4:]}呢？"
    asking = next(
        (word.lower() for word in words if word.lower() in ("who", "what", "when", "where", "why", "how", "which")), ""
    )
    content = [word for word in words if lexical.content_terms(word)]
    return f"And {asking} {content[-1]}?" if asking and content else ""


def auc(right: Array, wrong: Array) -> float:
    """The chance that one of the first scores above one of the second."""
    return float(((right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)).mean())
