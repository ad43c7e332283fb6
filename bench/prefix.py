"""What the prompt's layout is worth: a growing conversation with vLLM's prefix cache and without.

    python -m bench.prefix [--turns 10]
    python -m bench.prefix --passages [--turns 10]     which history suits the cache when replies rest on documents

Prints for each turn its prompt's tokens, the share of them that came from the cache, and the time to the first token
with the cache on and off. Aim: 90% of the prompt from the cache from turn 2 on. With --passages, each question comes
with three paragraphs of SQuAD 1.1 dev, and what was sent is repeated in the history either with them or without.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from bench.data import DATA
from bench.running import Bench, heading, running
from bot.chat import Chat
from bot.events import Finished
from bot.passages import framed
from engine.client import ChatRequest, Done
from knowledge.passages import Passage
from settings import Persona, Sampling

PERSONA = Persona(
    name="familiar",
    system="You are a helpful AI assistant named Familiar. You give short, clear and correct answers.",
    sampling=Sampling(temperature=0.5, repetition_penalty=1.05, max_tokens=80),
)
MESSAGES = (
    "I am planning a week in Lisbon with my parents, who like museums and cannot walk far. Which quarter would suit "
    "us, and what should we look out for when we book a flat there?",
    "And which two museums would you choose if we had one rainy day only?",
    "My father is diabetic. What should he eat in a Portuguese restaurant, and what should he leave?",
    "How do we get from the airport to the flat with three large suitcases?",
    "Please write a short message to the landlord that we arrive at ten in the evening.",
    "What could we do on the Sunday, when many shops are closed?",
    "Is there a day trip by train that is not too tiring?",
    "Which words of Portuguese should we learn before we go?",
    "What would a taxi to the sea cost, roughly?",
    "Now sum up the plan for the week in five lines.",
)


async def conversation(turns: int, **engine: object) -> list[Finished]:
    async with running((PERSONA,), lora="off", **engine) as bench:
        heading(f"Prefix cache {'off' if engine else 'on'}", bench.address)
        chat = await Chat.open(bench.assistant, channel="bench", external_id="ada")
        replies = []
        for number in range(turns):
            end = None
            async for event in chat.send(MESSAGES[number % len(MESSAGES)]):
                end = event
            assert isinstance(end, Finished), end
            replies.append(end)
        return replies


async def main(turns: int) -> None:
    cached = await conversation(turns)
    plain = await conversation(turns, prefix_caching=False)
    print("Share from the cache: of the whole prompt, and of what the engine had computed before.\n")
    print("turn  prompt tokens  of the prompt  of the known  TTFT with cache  without  prompt tokens  faster per token")
    known, shares, known_shares = 0, [], []
    for number, (reply, without) in enumerate(zip(cached, plain, strict=True), 1):
        share = reply.cached_tokens / reply.prompt_tokens
        known_share = reply.cached_tokens / known if known else 0.0
        ratio = (without.ttft_s / without.prompt_tokens) / (reply.ttft_s / reply.prompt_tokens)
        print(
            f"{number:>4}  {reply.prompt_tokens:>13}  {share:>13.0%}  {known_share:>12.0%}  "
            f"{1000 * reply.ttft_s:>12.0f} ms  {1000 * without.ttft_s:>4.0f} ms  "
            f"{without.prompt_tokens:>13}  {ratio:>10.1f} times"
        )
        known = reply.prompt_tokens + reply.completion_tokens
        if number > 1:
            shares.append(share)
            known_shares.append(known_share)
    print(f"\nFrom turn 2 on, of the prompt {min(shares):.0%} at least and {sum(shares) / len(shares):.0%} on average;")
    print(
        f"of the known {min(known_shares):.0%} at least and {sum(known_shares) / len(shares):.0%} on average. Aim: 90%."
    )


# With passages


async def with_passages(turns: int) -> None:
    async with running((PERSONA,), lora="off", max_model_len=8192) as bench:
        heading("Passages in the history, or only in the newest message", bench.address)
        asked = questions(turns)
        ways = {way: await questioned(bench, asked, kept=way == "kept") for way in ("dropped", "kept")}
    print("Of each prompt: its tokens, the share of them from the cache, those that were computed, and the TTFT.\n")
    print("turn  dropped: tokens  cached  computed      TTFT  kept: tokens  cached  computed      TTFT")
    for number, (dropped, kept) in enumerate(zip(*ways.values(), strict=True), 1):
        print(f"{number:>4}  {told(dropped, 15)}  {told(kept, 12)}")
    sums = [sum(each.prompt_tokens - each.cached_tokens for each in way) for way in ways.values()]
    print(f"\nComputed in all: {sums[0]} tokens where they are dropped, {sums[1]} where they are kept;")
    print(f"in the window at the end: {ways['dropped'][-1].prompt_tokens} and {ways['kept'][-1].prompt_tokens} tokens.")


def questions(turns: int) -> list[tuple[str, tuple[Passage, ...]]]:
    """Each with three paragraphs of one article; the first is the one that it was written about."""
    articles = json.loads((DATA / "squad-v1.1-dev.json").read_text(encoding="utf-8"))["data"]
    asked = []
    for article in articles[:turns]:
        paragraphs = article["paragraphs"][:3]
        passages = [passage(article["title"], each["context"]) for each in paragraphs]
        asked.append((paragraphs[0]["qas"][0]["question"], tuple(passages)))
    return asked


def passage(title: str, text: str) -> Passage:
    return Passage("", 0, "shared", title.replace("_", " "), title, "", "", None, None, text, 1.0, 1.0, 1.0)


async def questioned(bench: Bench, asked: list[tuple[str, tuple[Passage, ...]]], *, kept: bool) -> list[Done]:
    system = f"{PERSONA.system} Passages {'stay' if kept else 'go'}."  # so that neither way finds the other's blocks
    history = [{"role": "system", "content": system}]
    sampling = {"temperature": 0.0, "repetition_penalty": 1.1, "max_tokens": 60}
    ends = []
    for question, passages in asked:
        newest = {"role": "user", "content": framed(passages, question, "en")}
        text, done = await bench.client.complete(ChatRequest((*history, newest), sampling, person="bench"))
        history += [newest if kept else {"role": "user", "content": question}, {"role": "assistant", "content": text}]
        ends.append(done)
    return ends


def told(done: Done, width: int) -> str:
    computed = done.prompt_tokens - done.cached_tokens
    share = done.cached_tokens / done.prompt_tokens
    return f"{done.prompt_tokens:>{width}}  {share:>6.0%}  {computed:>8}  {1000 * done.ttft_s:>5.0f} ms"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--passages", action="store_true")
    chosen = parser.parse_args()
    asyncio.run(with_passages(min(chosen.turns, 48)) if chosen.passages else main(chosen.turns))
