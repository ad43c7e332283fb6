"""Which sampling suits the bundled model: facts right, a name remembered, loops, replies cut at their length.

    python -m bench.replies [--read]      --read prints the replies of the first row, to be read

A model of 135M parameters knows little; the table is for choosing defaults, not for praise.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from dataclasses import dataclass

from bench.running import heading, running
from engine.client import ChatRequest, EngineClient
from engine.models import sampling_defaults
from settings import DEFAULT_PERSONA

SYSTEMS = {
    "familiar's": DEFAULT_PERSONA.system,
    "plain": "You are a helpful AI assistant named Familiar.",
    "languages": "You are Familiar, a friendly and helpful assistant. Answer in the language of the question, briefly "
    "and plainly. Say so when you do not know.",
}
SAMPLINGS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0.0, "repetition_penalty": 1.0},
    "0.2": {"temperature": 0.2, "top_p": 0.9, "repetition_penalty": 1.0},
    "0.3, penalty 1.05": {"temperature": 0.3, "top_p": 0.9, "repetition_penalty": 1.05},
    "0.3, penalty 1.1": {"temperature": 0.3, "top_p": 0.9, "repetition_penalty": 1.1},
    "0.5, penalty 1.1": {"temperature": 0.5, "top_p": 0.9, "repetition_penalty": 1.1},
    "0.8": {"temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.0},
}
# question: what a right answer matches, in lower case
FACTS = {
    "What is the capital of France?": "paris",
    "What is the capital of Italy?": "rome",
    "Who wrote Romeo and Juliet?": "shakespeare",
    "How many legs does a spider have?": "eight|8",
    "What colour is the sky on a clear day?": "blue",
    "What is the largest planet in the solar system?": "jupiter",
    "Which animal says meow?": "cat",
    "What do bees make?": "honey",
    "What is the opposite of hot?": "cold",
    "What is frozen water called?": "ice",
    "How many days are in a week?": "seven|7",
    "What gas do plants absorb?": "carbon dioxide|co2",
    "Who was the first president of the United States?": "washington",
    "What is 2 + 2?": "4|four",
    "What language is spoken in Brazil?": "portuguese",
    "Hello! Who are you?": "familiar|assistant",
}
OPEN = (
    "Explain what a black hole is to a child.",
    "Give me three ideas for a birthday present for my sister who loves gardening.",
    "Write a Python function that reverses a string.",
    "What should I cook with tomatoes, eggs and rice?",
    "I feel sad today.",
)
INTRODUCED = (
    ("user", "My name is {name} and I live in Berlin."),
    ("assistant", "Nice to meet you, {name}!"),
    ("user", "Tell me a fact about cats."),
    ("assistant", "Cats sleep for about 13 hours a day."),
    ("user", "What is my name?"),
)
DRAWS = 3


@dataclass(frozen=True)
class Reply:
    question: str
    text: str
    right: bool | None
    loops: bool
    cut: bool


def loops(text: str) -> bool:
    """Do more than three runs of four words stand in it again?"""
    words = text.split()
    runs = [tuple(words[at : at + 4]) for at in range(len(words) - 3)]
    return len(runs) - len(set(runs)) > 3


async def replies(client: EngineClient, system: str, sampling: dict[str, float]) -> tuple[list[Reply], list[Reply]]:
    async def ask(messages: list[tuple[str, str]], answer: str | None, seed: int) -> Reply:
        sent = tuple({"role": role, "content": text} for role, text in [("system", system), *messages])
        request = ChatRequest(sent, {**sampling, "max_tokens": 160, "seed": seed}, person=str(seed))
        text, done = await client.complete(request)
        right = None if answer is None else bool(re.search(answer, text.lower()))
        return Reply(messages[-1][1], text, right, loops(text), done.finish == "length")

    named = [[(role, text.format(name=name)) for role, text in INTRODUCED] for name in ("Bruno", "Ada", "Mei")]
    asked = [ask([("user", q)], answer, seed) for q, answer in FACTS.items() for seed in range(DRAWS)]
    asked += [ask([("user", q)], None, seed) for q in OPEN for seed in range(DRAWS)]
    names = [ask(messages, messages[1][1][18:-1].lower(), seed) for messages in named for seed in range(DRAWS)]
    return await asyncio.gather(*asked), await asyncio.gather(*names)


async def main(read: bool) -> None:
    async with running((DEFAULT_PERSONA,), lora="off") as bench:
        heading("Replies by system prompt and sampling", bench.address)
        advised = {"as shipped": sampling_defaults(bench.address.model_folder)}
        print("system prompt  sampling           facts  name  loop   cut")
        for system_name, system in SYSTEMS.items():
            for name, sampling in {**advised, **SAMPLINGS}.items():
                answers, names = await replies(bench.client, system, sampling)
                facts = [reply.right for reply in answers if reply.right is not None]
                print(
                    f"{system_name:13}  {name:17} {sum(facts) / len(facts):>5.0%} "
                    f"{sum(bool(reply.right) for reply in names) / len(names):>5.0%} "
                    f"{sum(reply.loops for reply in answers) / len(answers):>5.0%} "
                    f"{sum(reply.cut for reply in answers) / len(answers):>5.0%}",
                    flush=True,
                )
                if read:
                    for reply in [*answers, *names]:
                        print(f"\n> {reply.question}\n{reply.text}")
                    return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--read", action="store_true")
    asyncio.run(main(parser.parse_args().read))
