"""What the log teaches: an example of each reply that counts, and pairs and verdicts where people gave any.

What became of a reply decides what it counts, the first of these that holds:

    corrected     the person said what it should have been; the correction is learnt in its place
    (left out)    it broke off with an error, or was written without the documents since searching them had failed; it
                  was stopped, is empty, was rated down, or was cut off at the most tokens
    rated_up      as it is
    chosen        the person went on from it, having had several replies to the same message
    (left out)    the person went on from another reply to the same message
    unremarked    the person went on from it, and that is all that is known
    (left out)    nothing followed, or what followed was given up for an earlier point of the conversation

Their weights stand in the configuration ([learning]); a reply that was cut off or stopped would teach to end in the
middle of a sentence, whatever was thought of it. A correction that says the same as the reply is none.

Passages stand in the prompts as the model saw them, or are left out by setting. In either case they are left out where
a correction points at none of them: learnt beside them, it would teach to pass over what was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, product
from typing import Literal, cast

from engine.tokenizer import ChatMessage
from finetune import grounding
from finetune.degenerate import empty
from finetune.examples import Example, Judged, Preference, Source, Why
from settings import Learning
from store import learning as log
from store.learning import LoggedReply
from store.session import Store

LeftOut = Literal["error", "stopped", "empty", "rated_down", "cut_off", "not_chosen", "not_gone_on_with"]

_WHOLE = ("stop", "length")  # the model's own end, or the most tokens: nobody broke it off


@dataclass(frozen=True)
class Collected:
    examples: tuple[Example, ...]
    preferences: tuple[Preference, ...]
    judged: tuple[Judged, ...]
    left_out: dict[str, int]  # replies, by reason
    people: int  # whose conversations the examples come from
    consent: dict[str, int]  # people, by choice: yes, no, unasked


def collect(store: Store, learning: Learning, *, place: str | None = None) -> Collected:
    """Everything that may be learnt from: of everywhere, or only of one `place` ("" is private). Raises StoreError."""
    left_out: Counter[str] = Counter()
    examples: list[Example] = []
    preferences: list[Preference] = []
    judged: list[Judged] = []
    people: set[int] = set()
    for replies in _by_question(log.logged(store, learning.consent, left_out)):
        if place is not None and replies[0].place != place:
            left_out["other_place"] += len(replies)
            continue
        found = list(_examples(replies, learning, left_out))
        examples += [example for _, example in found]
        people.update(reply.person_id for reply, _ in found)
        preferences += _preferences(replies, learning)
        judged += _judged(replies, learning)
    return Collected(
        tuple(examples),
        tuple(preferences),
        tuple(judged),
        dict(sorted(left_out.items())),
        len(people),
        dict(sorted(log.consents(store).items())),
    )


def taught(replies: Iterable[LoggedReply], learning: Learning) -> Iterator[tuple[LoggedReply, Example]]:
    """The examples that these replies are, by the same rules, whoever agrees: for what is not to be learnt any more.

    All replies of a conversation come one after the other.
    """
    for together in _by_question(replies):
        yield from _examples(together, learning, Counter())


def became(reply: LoggedReply, replies: Sequence[LoggedReply]) -> Why | LeftOut:
    """What became of a reply; `replies` are all that its message got, itself among them."""
    if _correction(reply):
        return "corrected"
    if reply.finish not in _WHOLE:
        return "stopped" if reply.finish == "stopped" else "error"
    if reply.error:
        return "error"
    if empty(reply.text):
        return "empty"
    if reply.rating == -1:
        return "rated_down"
    if reply.finish == "length":
        return "cut_off"
    if reply.rating == 1:
        return "rated_up"
    several = sum(_is_whole(each) for each in replies) > 1
    if several and not reply.on_branch and any(each.on_branch and each.went_on for each in replies):
        return "not_chosen"
    if not (reply.on_branch and reply.went_on):
        return "not_gone_on_with"
    return "chosen" if several else "unremarked"


def _by_question(replies: Iterable[LoggedReply]) -> Iterator[list[LoggedReply]]:
    """The replies to one message together, conversation by conversation."""
    for _, of_one in groupby(replies, key=lambda reply: reply.conversation_id):
        together: dict[int, list[LoggedReply]] = {}
        for reply in of_one:
            together.setdefault(reply.parent_id, []).append(reply)
        yield from together.values()


def _examples(
    replies: Sequence[LoggedReply], learning: Learning, left_out: Counter[str]
) -> Iterator[tuple[LoggedReply, Example]]:
    """Of the replies to one message, those that count."""
    weights: dict[str, float] = {
        "corrected": learning.corrected,
        "rated_up": learning.rated_up,
        "chosen": learning.chosen,
        "unremarked": learning.unremarked,
    }
    for reply in replies:
        why = became(reply, replies)
        if weights.get(why):
            yield reply, _example(reply, cast(Why, why), weights[why], learning)
        else:
            left_out[why if why not in weights else "weight_0"] += 1


def _example(reply: LoggedReply, why: Why, weight: float, learning: Learning) -> Example:
    correction = _correction(reply) if why == "corrected" else ""
    with_passages = _keeps_passages(reply, correction or reply.text, bool(correction), learning)
    prompt = _prompt(reply, with_passages)
    text = _text(reply, correction or reply.text, with_passages)
    return Example(
        (*prompt, {"role": "assistant", "content": text}),
        (*[0.0] * len(prompt), weight),
        why,
        _source(reply, at=reply.corrected_at if correction else None),
    )


def _preferences(replies: Sequence[LoggedReply], learning: Learning) -> Iterator[Preference]:
    """The better and the worse, each two texts once, for the strongest of the reasons."""
    seen: set[tuple[str, str]] = set()
    for preference in _pairs(replies, learning):
        texts = (preference.chosen.strip(), preference.rejected.strip())
        if preference.weight and texts[0] != texts[1] and texts not in seen and texts[::-1] not in seen:
            seen.add(texts)
            yield preference


def _pairs(replies: Sequence[LoggedReply], learning: Learning) -> Iterator[Preference]:
    for reply in replies:
        correction = _correction(reply)
        if correction and reply.finish in _WHOLE and not empty(reply.text):
            kept = _keeps_passages(reply, correction, True, learning)
            yield Preference(
                _prompt(reply, kept),
                _text(reply, correction, kept),
                _text(reply, reply.text, kept),
                "corrected",
                _source(reply, at=reply.corrected_at),
                learning.corrected,
            )
    whole = [reply for reply in replies if _is_whole(reply)]
    ended = [reply for reply in whole if reply.finish == "stop" and not _correction(reply)]
    for better, worse in product([each for each in ended if each.rating == 1], whole):
        if worse.rating == -1:
            yield _preference(better, worse, "rated", learning.rated_up, learning)
    gone_on_with = [each for each in ended if each.on_branch and each.went_on and each.rating != -1]
    for better, worse in product(gone_on_with, whole):
        if not worse.on_branch and worse.rating != 1:
            yield _preference(better, worse, "chosen", learning.chosen, learning)


def _preference(
    better: LoggedReply, worse: LoggedReply, why: Literal["rated", "chosen"], weight: float, learning: Learning
) -> Preference:
    """On the better one's prompt; the passages stay where both had the same, and their numbers mean the same."""
    kept = learning.passages == "kept" and better.passages == worse.passages
    return Preference(
        _prompt(better, kept),
        _text(better, better.text, kept),
        _text(worse, worse.text, kept),
        why,
        _source(better, worse),
        weight,
    )


def _judged(replies: Sequence[LoggedReply], learning: Learning) -> Iterator[Judged]:
    """One that was rated up and corrected all the same is no clear case."""
    kept = learning.passages == "kept"
    for reply in replies:
        if reply.rating is None or not _is_whole(reply) or (reply.rating == 1 and _correction(reply)):
            continue
        yield Judged(_prompt(reply, kept), _text(reply, reply.text, kept), reply.rating == 1, _source(reply))


def _correction(reply: LoggedReply) -> str:
    """What the person would have had said; "" where that is nothing, or what was said."""
    correction = (reply.correction or "").strip()
    return "" if empty(correction) or correction == reply.text.strip() else correction


def _is_whole(reply: LoggedReply) -> bool:
    """Did it come to an end, and from all that it should have been written from?"""
    return reply.finish in _WHOLE and not reply.error and not empty(reply.text)


def _keeps_passages(reply: LoggedReply, text: str, corrected: bool, learning: Learning) -> bool:
    return learning.passages == "kept" and (not corrected or grounding.cites(text, len(reply.passages)))


def _text(reply: LoggedReply, text: str, with_passages: bool) -> str:
    return text if with_passages else grounding.without_marks(text, len(reply.passages))


def _prompt(reply: LoggedReply, with_passages: bool) -> tuple[ChatMessage, ...]:
    """As it was sent; without passages, the newest message is as later prompts hold it."""
    if with_passages or not reply.passages:
        return reply.prompt
    newest = reply.prompt[-1]
    text = reply.question
    for first in range(len(reply.unanswered)):  # how many of them the prompt still had room for, it says itself
        before = "\n\n".join(reply.unanswered[first:]) + "\n\n"
        if newest["content"].startswith(before):
            text = before + text
            break
    return (*reply.prompt[:-1], {**newest, "content": text})


def _source(reply: LoggedReply, *others: LoggedReply, at: datetime | None = None) -> Source:
    """Where it comes from; `at` is when that was said which is learnt, if not with the reply."""
    everybody = {reply.person_id, *reply.quoted_persons}.union(*(each.quoted_persons for each in others))
    return Source(
        f"log:{reply.conversation_id}",
        at or max(each.at for each in (reply, *others)),
        tuple(sorted({reply.message_id, *(each.message_id for each in others)})),
        tuple(sorted(everybody)),
        reply.place,
        reply.language,
    )
