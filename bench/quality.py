"""Whether ratings can be foretold from the text of question and reply: finetune.quality.

    python -m bench.quality

The ratings are ranks that people gave to replies in 100 English trees of OASST (Apache-2.0; Köpf et al., 2023), from
FAMILIAR_DATA (else ../shared/data). Neighbours in rank are the pairs of a preferred and a less preferred reply. A reply
that was preferred in all of its pairs counts as good, one that never was as bad, and one that was both as neither. No
tree is on both sides. Beside the head stand the guess that is always the commoner verdict, as scikit-learn prints both,
and what length alone says: that the longer half of the replies is good.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from bench.data import DATA
from bench.running import heading
from engine.tokenizer import ChatMessage
from finetune import quality
from finetune.examples import Judged, Preference, Source
from knowledge.embedding import bundled
from settings import load


def main() -> None:
    lines = (DATA / "oasst1-en-100-trees.jsonl").read_text(encoding="utf-8").splitlines()
    found = [pair for line in lines for pair in pairs(json.loads(line))]
    rated = judged(found)
    heading("Reply quality: replies that people ranked, each judged by a head that learnt from other conversations")
    conversations = len({each.source.conversation for each in rated})
    good = sum(each.good for each in rated)
    print(
        f"{len(found)} pairs: {good} replies were always preferred and {len(rated) - good} never, in {conversations} "
        f"conversations\n"
    )
    embedder = bundled.BundledEmbedder(bundled.ensure(load().data.folder, print), threads=1)
    scores = quality.evaluated(rated, embedder.embed_passages)
    embedder.close()
    print(f"The commoner verdict:\n\n{scores.commoner_printed}")
    print(f"The head:\n\n{scores.printed}")
    print(scores.said())
    middle = median(len(each.reply) for each in rated)
    right = sum((len(each.reply) > middle) == each.good for each in rated)
    print(f"That the longer half of the replies is good is right in {right / len(rated):.1%}.")


def pairs(tree: dict[str, Any]) -> Iterator[Preference]:
    """Of replies to one message, those that are next to each other in rank."""
    source = Source(f"file:oasst:{tree['message_tree_id']}")
    open_: list[tuple[dict[str, Any], tuple[ChatMessage, ...]]] = [(tree["prompt"], ())]
    while open_:
        node, before = open_.pop()
        role = "user" if node["role"] == "prompter" else "assistant"
        path: tuple[ChatMessage, ...] = (*before, {"role": role, "content": node["text"]})
        open_ += [(reply, path) for reply in node["replies"]]
        if role == "user":
            ranked = sorted(
                (each for each in node["replies"] if each.get("rank") is not None), key=lambda each: int(each["rank"])
            )
            for better, worse in pairwise(ranked):
                yield Preference(path, better["text"], worse["text"], "imported", source)


def judged(found: Sequence[Preference]) -> list[Judged]:
    preferred = {(each.prompt[-1]["content"], each.chosen) for each in found}
    others = {(each.prompt[-1]["content"], each.rejected) for each in found}
    rated: list[Judged] = []
    for each in found:
        for reply, good in ((each.chosen, True), (each.rejected, False)):
            key = (each.prompt[-1]["content"], reply)
            if (key in preferred) != (key in others):
                rated.append(Judged(each.prompt, reply, good, each.source))
    return rated


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
