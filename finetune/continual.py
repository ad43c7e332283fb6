"""How a model learns again and again without losing what it knew.

Two things are lost, and each is held by something else (bench/forgetting.py has the table):

    what earlier runs taught     all of it is learnt again, from the base model (finetune.start = "base"), or a sample
                                 of it is replayed when training goes on from the last adapter ("last")
    what the base model could    its own replies to everyday prompts, the anchors, are learnt beside the new examples
                                 (finetune.general), and on some of them in every step the model is pulled back to the
                                 base model's next-token probabilities (finetune.kl)

The probabilities are those of the weights below what is trained. Where training goes on from a version that is a whole
model ("last"), they are that version's and not the base model's, for which a second model would have to be in memory.
The replies that are learnt as text are the base model's in any case.

Also to be had is a pull of the parameters to where they began (finetune.l2). An adapter of its own for a group, whose
learning touches nobody else, is the run's business (finetune/run.py).

Sources: replay and its reservoir, Vitter 1985 and Rolnick et al. 2019 (arXiv:1811.11682); the base model's own replies,
Yang et al. 2024 (arXiv:2402.13669); its probabilities as a target, Li and Hoiem 2016 (arXiv:1606.09282); L2 to the
start, Li et al. 2018 (arXiv:1802.01483).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.adapter_check import base_fingerprint
from engine.tokenizer import ChatMessage
from finetune.degenerate import empty, looping
from finetune.errors import DataRefused
from finetune.examples import Example, Source
from finetune.files import read_lines, write_lines
from finetune.job import Progress, Told
from finetune.languages import differ
from finetune.packing import forward, pack
from finetune.tokens import Encoded
from settings import DEFAULT_PERSONA, Finetune

if TYPE_CHECKING:
    from torch import Tensor

GENERAL = Path(__file__).with_name("general")
KL_ANCHORS = 48  # that a run has at least, where it pulls back to the base model; fewer would be learnt by heart
ANCHOR_SHARE = 0.25  # of finetune.batch_tokens: anchors in each step, beside the batch
KEPT = 64  # of the base model's likeliest next tokens, with their probabilities; the others count together
REPLY_TOKENS = 256  # of the base model, at most; an anchor that is not finished by then is none
PROMPT_TOKENS = 512
AT_ONCE = 20  # prompts, after which the replies are safe


def everyday() -> list[str]:
    """Prompts such as people give on any day, in English and Chinese, none about anybody's own affairs."""
    written = tomllib.loads((GENERAL / "prompts.toml").read_text(encoding="utf-8"))
    return [prompt for language in ("en", "zh") for prompt in written[language]]


def general_text() -> list[str]:
    """Paragraphs of common knowledge, in English and Chinese, to measure perplexity on. Nothing learns from them."""
    return (GENERAL / "text.txt").read_text(encoding="utf-8").strip().split("\n\n")


# The base model's own replies


def wanted_anchors(settings: Finetune, examples: int) -> int:
    """How many a run with so many examples takes."""
    share = math.ceil(settings.general * examples)
    return min(len(everyday()), max(share, KL_ANCHORS if settings.kl > 0 else 0))


def anchors(model_folder: Path, n: int, seed: int, cache: Path, told: Told = lambda progress: None) -> list[Example]:
    """`n` everyday prompts, drawn by `seed`, with the base model's own replies; fewer where there are no more.

    A reply that loops, says nothing, is in another language or not finished is left out. What was generated once for a
    base model lies in the folder `cache` and is not generated again, also after being killed in between; the bundled
    model's replies come with this package, in a file that this function wrote. Raises EngineError, OSError.
    """
    name = f"anchors-{base_fingerprint(model_folder)}.jsonl"
    file = cache / name
    known = _known(GENERAL / name) | _known(file)
    order = list(enumerate(everyday()))
    random.Random(seed).shuffle(order)
    chosen = _usable(order, known, n)
    if len(chosen) < n and any(prompt not in known for _, prompt in order):
        replies = _Replies(model_folder)
        while len(chosen) < n and (missing := [prompt for _, prompt in order if prompt not in known]):
            # Some of them will be left out, so some more than are missing.
            batch = missing[: min(AT_ONCE, max(8, math.ceil((n - len(chosen)) * 1.3)))]
            known |= replies.to(batch)
            write_lines(file, ({"prompt": prompt, "reply": reply} for prompt, reply in known.items()))
            chosen = _usable(order, known, n)
            told(Progress("anchors", min(len(chosen), n), n, "the base model's own replies"))
    return [_anchor(number, prompt, known[prompt]) for number, prompt in chosen]


def _usable(order: list[tuple[int, str]], known: dict[str, str], n: int) -> list[tuple[int, str]]:
    """The first `n` that have a reply, but none behind a prompt that is still to be answered, so always the same."""
    answered = itertools.takewhile(lambda each: each[1] in known, order)
    return [each for each in answered if known[each[1]]][:n]


def _known(file: Path) -> dict[str, str]:
    """Prompt -> reply, "" where there is no usable one. A file that is damaged is made anew."""
    if not file.exists():
        return {}
    try:
        return {row["prompt"]: row["reply"] for row in read_lines(file)}
    except (DataRefused, KeyError, TypeError):
        return {}


def _prompt(prompt: str) -> tuple[ChatMessage, ...]:
    """Every second one as the default persona is asked, the others without a system message, drawn by the prompt."""
    asked = {"role": "user", "content": prompt}
    if hashlib.sha256(prompt.encode()).digest()[0] % 2:
        return (asked,)
    return ({"role": "system", "content": DEFAULT_PERSONA.system}, asked)


def _anchor(number: int, prompt: str, reply: str) -> Example:
    messages = (*_prompt(prompt), {"role": "assistant", "content": reply})
    weights = (0.0,) * (len(messages) - 1) + (1.0,)
    language = "en" if prompt.isascii() else "zh"
    return Example(messages, weights, "general", Source(f"general:{number}", language=language))


class _Replies:
    """The base model, answering."""

    def __init__(self, model_folder: Path) -> None:
        from finetune import servable
        from finetune.hardware import plan
        from finetune.tokens import Renderer

        device = plan(Finetune(dtype="float32")).device
        self._model = servable.load(model_folder, dtype="auto" if device != "cpu" else "float32").to(device)
        self._renderer = Renderer(model_folder)
        self._folder = model_folder

    def to(self, prompts: Sequence[str]) -> dict[str, str]:
        from finetune.replies import written

        asked = [(_prompt(prompt), REPLY_TOKENS) for prompt in prompts]
        replies = written(self._model, self._renderer, self._folder, asked, max_prompt=PROMPT_TOKENS)
        return {
            prompt: reply.text if reply is not None and reply.finish == "stop" and _fit(prompt, reply.text) else ""
            for prompt, reply in zip(prompts, replies, strict=True)
        }


def _fit(prompt: str, reply: str) -> bool:
    return not (empty(reply) or looping(reply) or differ(prompt, reply))


# What is learnt together


def mix(
    new: Sequence[Example],
    earlier: Sequence[Example],
    anchors: Sequence[Example],
    settings: Finetune,
    seed: int,
) -> list[Example]:
    """The new examples, with earlier ones and anchors as the settings say.

    From the base model, all of the earlier ones are learnt again; from the last adapter, finetune.replay of them for
    each new one. Anchors: finetune.general for each of these, as far as there are so many.
    """
    there = {_identity(each) for each in new}
    others = [each for each in earlier if _identity(each) not in there]
    if settings.start == "last":
        others = reservoir(others, round(settings.replay * len(new)), seed)
    learnt = [*new, *others]
    own = list(anchors)
    random.Random(f"{seed} general").shuffle(own)
    return learnt + own[: round(settings.general * len(learnt))]


def reservoir(items: Iterable[Example], k: int, seed: int) -> list[Example]:
    """`k` examples, from as many conversations as can be, each conversation as likely as any other.

    Each has a random number, of itself and the seed, and the smallest are taken: a reservoir as by Efraimidis and
    Spirakis 2006, which stays the same in whatever order they come, and loses only the forgotten one's place when one
    is forgotten. A second example of a conversation is taken when all have given their first.
    """
    numbered: list[tuple[int, bytes, int, Example]] = []
    turn: dict[str, int] = {}
    for place, each in enumerate(items):
        conversation = each.source.conversation
        nth = turn[conversation] = turn.get(conversation, -1) + 1
        drawn = hashlib.sha256(f"{seed} {conversation}".encode()).digest()
        numbered.append((nth, drawn, place, each))
    return [each for *_, each in sorted(numbered, key=lambda item: item[:3])[: max(0, k)]]


def _identity(example: Example) -> object:
    """The log's reply, whatever people thought of it since; of another source, the text itself."""
    said = json.dumps(example.messages, ensure_ascii=False, sort_keys=True)
    return example.source.message_ids or (example.source.conversation, said)


# The pull back


def regulariser(model: Any, settings: Finetune, encoded: Sequence[Encoded]) -> Callable[[int], Tensor | None]:
    """What is added to the loss of step 0, 1, ..., ready weighted; None where there is nothing to add.

    `model` is as finetune.methods.attach gave it, before any step. `encoded` are the anchors. Which of them a step sees
    depends on its number and settings.seed alone.
    """
    kl = _ToTheBase(model, settings, encoded) if settings.kl > 0 and encoded else None
    l2 = _ToTheStart(model) if settings.l2 > 0 else None

    def held_back(step: int) -> Tensor | None:
        parts = [
            *([settings.kl * kl.divergence(step)] if kl else []),
            *([settings.l2 * l2.distance()] if l2 else []),
        ]
        return sum(parts[1:], parts[0]) if parts else None

    return held_back


@dataclass(frozen=True)
class _Likeliest:
    """Of the base model at P predicted tokens: the likeliest next tokens, and what is left for all others."""

    tokens: Tensor  # (P, KEPT)
    log_probs: Tensor  # (P, KEPT)
    rest: Tensor  # (P, 1), log of the others' probability


class _ToTheBase:
    """KL(base || model), in nats a token of the anchors' replies.

    The base model's probabilities do not change, so of each anchor they are computed once, when it is first seen, and
    the KEPT likeliest stay; the others count as one. What is measured is then a lower bound of the whole divergence.
    """

    def __init__(self, model: Any, settings: Finetune, encoded: Sequence[Encoded]) -> None:
        self._model, self._settings = model, settings
        self._encoded = [each for each in encoded if each.predicted]
        self._base: dict[int, _Likeliest] = {}

    def divergence(self, step: int) -> Tensor:
        import torch

        members = self._members(step)
        likeliest = [self._likeliest(member) for member in members]
        log_probs = torch.log_softmax(forward(self._model, pack(self._encoded, members)), dim=-1)
        tokens = torch.cat([each.tokens for each in likeliest])
        base = torch.cat([torch.cat([each.log_probs, each.rest], dim=1) for each in likeliest])
        kept = log_probs.gather(1, tokens)
        both = torch.cat([kept, _rest(kept)], dim=1)
        return torch.nn.functional.kl_div(both, base, reduction="sum", log_target=True) / len(tokens)

    def _members(self, step: int) -> list[int]:
        """Some of the anchors, ANCHOR_SHARE of a batch together, or one that is longer."""
        order = list(range(len(self._encoded)))
        random.Random(f"{self._settings.seed} anchors {step}").shuffle(order)
        room = ANCHOR_SHARE * self._settings.batch_tokens
        chosen: list[int] = []
        for member in order:
            length = len(self._encoded[member].ids)
            if chosen and length > room:
                break
            chosen.append(member)
            room -= length
        return chosen

    def _likeliest(self, member: int) -> _Likeliest:
        import torch

        from finetune.methods import as_base

        if member not in self._base:
            training = self._model.training
            self._model.eval()
            # Alone in its row, so that its numbers do not depend on the step that needs them first.
            with torch.no_grad(), as_base(self._model):
                log_probs = torch.log_softmax(forward(self._model, pack(self._encoded, [member])), dim=-1)
            self._model.train(training)
            kept, tokens = log_probs.topk(min(KEPT, log_probs.shape[1] - 1), dim=-1)
            self._base[member] = _Likeliest(tokens, kept, _rest(kept))
        return self._base[member]


def _rest(log_probs: Tensor) -> Tensor:
    """log of what these probabilities, (P, K), leave: (P, 1). Never quite nothing, which has no logarithm."""
    return (1 - log_probs.exp().sum(dim=1, keepdim=True)).clamp_min(1e-6).log()


class _ToTheStart:
    """Half the squared distance of all trained parameters from where they began."""

    def __init__(self, model: Any) -> None:
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        self._start = [each.detach().clone() for each in self._parameters]

    def distance(self) -> Tensor:
        import torch

        squares = [(each - start).square().sum() for each, start in zip(self._parameters, self._start, strict=True)]
        return torch.stack(squares).sum() / 2
