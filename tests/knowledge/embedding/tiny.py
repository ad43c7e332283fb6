"""Models of sentence-transformers with random weights, small enough to make in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

WORDS = ("the", "cat", "sat", "on", "mat", "dog", "ran", "far", "away", "query", "passage", ":", "猫", "狗", "坐")
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}


def save_tokenizer(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(vocabulary)}, model_max_length=32)
    tokenizer.save_pretrained(folder)
    return len(vocabulary)


def save_embedder(folder: Path, *, seed: int = 0, prompts: dict[str, str] | None = None) -> Path:
    torch.manual_seed(seed)
    bert = folder.parent / f".{folder.name}-bert"
    size = save_tokenizer(bert)
    BertModel(BertConfig(vocab_size=size, **SHAPE)).save_pretrained(bert)
    model = SentenceTransformer(modules=[Transformer(str(bert)), Pooling(32, "mean")], prompts=prompts, device="cpu")
    model.save(str(folder), create_model_card=False)
    return folder


def save_reranker(folder: Path, *, labels: int = 1) -> Path:
    torch.manual_seed(0)
    size = save_tokenizer(folder)
    BertForSequenceClassification(BertConfig(vocab_size=size, num_labels=labels, **SHAPE)).save_pretrained(folder)
    CrossEncoder(str(folder), device="cpu").save(str(folder))
    return folder
