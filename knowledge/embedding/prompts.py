"""What some models must see before a question or a passage, because they were trained so.

A sentence-transformers folder often says it itself (`config_sentence_transformers.json`); then that holds. For the
others, and for those behind a URL, the model's name decides. Source: the models' cards on the Hugging Face hub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompts:
    query: str = ""
    passage: str = ""


_INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
_BY_NAME = (
    (r"\be5-(?:mistral\b|.*-instruct\b)", Prompts(query=_INSTRUCT + " ")),
    (r"\be5-", Prompts(query="query: ", passage="passage: ")),
    (r"\bqwen3-embedding\b", Prompts(query=_INSTRUCT)),
    (r"\bnomic-embed-text\b", Prompts(query="search_query: ", passage="search_document: ")),
)


def prompts_of(name: str) -> Prompts:
    for pattern, prompts in _BY_NAME:
        if re.search(pattern, name, re.IGNORECASE):
            return prompts
    return Prompts()
