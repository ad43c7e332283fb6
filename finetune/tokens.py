"""Conversations become tokens, and of each token it is known how much it counts in the loss.

What is learnt is what the model has to write itself when it is served: the words of the replies and the token that
ends a turn, and nothing else. So the head of a reply ("<|im_start|>assistant") counts nothing, and the tokens in front
of it are those that the engine makes of the same prompt. Chat templates do not mark the replies (few have
`{% generation %}`), so the place of each is found by rendering the conversation twice: up to the reply with the
reply's head, and with the reply in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError

from engine.errors import EngineRefused
from engine.tokenizer import ChatMessage, PromptTokenizer
from finetune.examples import Example


@dataclass(frozen=True)
class Encoded:
    ids: tuple[int, ...]
    weights: tuple[float, ...]  # one a token: above 0 where it is to be predicted, from those before it

    @property
    def predicted(self) -> int:
        return sum(weight > 0 for weight in self.weights)


class Renderer(PromptTokenizer):
    """The chat template and tokenizer of the model in a folder, for training. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelUnavailable if the folder has no tokenizer.json or no chat template."""
        super().__init__(folder)
        special = self._tokenizer.get_added_tokens_decoder().items()
        self._special = {number for number, token in special if token.special}
        self._end = self._tokenizer.token_to_id(self._named.get("eos_token", ""))

    def prompt_ids(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The tokens that the engine makes of these messages, the reply's head included. Raises EngineRefused."""
        return self._ids(self.render(self.shield(messages)))

    def encode(self, example: Example, max_tokens: int) -> Encoded | None:
        """The example's tokens, with the weight of each.

        One that is longer than `max_tokens` loses its oldest whole turns, as a prompt that is too long does when it is
        served. None if its newest turn alone does not fit, if nothing in what is left is to be learnt, or if the chat
        template does not take it.
        """
        for messages, weights in _shorter_and_shorter(self.shield(example.messages), example.weights):
            if not any(weight > 0 for weight in weights):
                return None
            try:
                encoded = self._encode(messages, weights)
            except EngineRefused:
                return None
            if len(encoded.ids) <= max_tokens:
                return encoded if encoded.predicted else None
        return None

    def text(self, text: str, max_tokens: int) -> Encoded | None:
        """A plain text, every token of which is predicted; cut at `max_tokens`. None for fewer than two tokens."""
        ids = self._ids(text)[:max_tokens]
        return Encoded(tuple(ids), (0.0, *(1.0 for _ in ids[1:]))) if len(ids) > 1 else None

    def _encode(self, messages: list[ChatMessage], weights: tuple[float, ...]) -> Encoded:
        ids: list[int] = []
        counts: list[float] = []
        done = ""  # the text that `ids` are of; it ends with the end of a turn
        for place, weight in enumerate(weights):
            if weight <= 0:
                continue
            prompt = self.render(messages[:place])
            if not prompt.startswith(done):  # the template shows earlier replies otherwise than it had them written
                ids, counts, done = [], [], ""
            ids += self._ids(prompt[len(done) :])
            counts += [0.0] * (len(ids) - len(counts))
            reply, done = self._reply(prompt, ids, messages[: place + 1])
            ids += reply
            counts += [weight] * len(reply)
        return Encoded(tuple(ids), tuple(counts))

    def _reply(self, prompt: str, prompt_ids: list[int], messages: list[ChatMessage]) -> tuple[list[int], str]:
        """The tokens of the last message and of its end, and the whole text up to there."""
        whole = self._render_whole(messages)
        if not whole.startswith(prompt):  # some templates strip or add thoughts
            whole = prompt + messages[-1]["content"]
        encoded, first, offset = self._tokenizer.encode(whole, add_special_tokens=False), len(prompt_ids), 0
        if encoded.ids[:first] != prompt_ids:  # the reply's first letters melt into its head: served, they cannot
            encoded = self._tokenizer.encode(whole[len(prompt) :], add_special_tokens=False)
            first, offset = 0, len(prompt)
        for place in range(first, len(encoded.ids)):
            if encoded.ids[place] in self._special:  # the shield leaves none in what was said
                return encoded.ids[first : place + 1], whole[: offset + encoded.offsets[place][1]]
        end = [] if self._end is None else [self._end]
        return encoded.ids[first:] + end, whole

    def _render_whole(self, messages: list[ChatMessage]) -> str:
        try:
            return self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=False, **self._named
            )
        except TemplateError as error:
            raise EngineRefused(f"The model's chat template does not take this conversation: {error}") from error

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _shorter_and_shorter(
    messages: list[ChatMessage], weights: tuple[float, ...]
) -> Iterator[tuple[list[ChatMessage], tuple[float, ...]]]:
    """All messages, then without the oldest turn, and so on; a system message stays."""
    kept = 1 if messages and messages[0]["role"] == "system" else 0
    yield messages, weights
    starts = [place for place, message in enumerate(messages) if message["role"] == "user" and place > kept]
    for start in starts:
        yield messages[:kept] + messages[start:], weights[:kept] + weights[start:]
