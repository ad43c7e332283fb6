"""A question that leans on the conversation ("and on Sundays?") becomes one that can be searched by itself.

The question before is put in front of it, and the one before that as long as that one leans on another in turn: no
model, no time. `needs_history` tells whether it is called for, since the words of another topic only mislead the search
for a question that stands by itself. (With `follow_ups = "rewrite"` the engine writes the question instead; that is
done above this room, which knows no engine, and asks `needs_history` first.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from knowledge import lexical

REACH = 3  # questions back, at most
LONGEST = 400  # characters of an earlier message: who pastes a page does not ask for all of it again

SHORT = 3  # content terms: a longer question mostly says itself whom its "his" means
SHORT_ZH = 14  # characters

_POINTING_WORDS = """
it its itself he him his she her hers they them their theirs this these those ones former latter same such
"""
_POINTING = frozenset(_POINTING_WORDS.split())
_POINTING_BACK = re.compile(
    r"\b(?:there|that|one|then|so)\W*$|^\W*(?:(?:is|was|does|did|has) )?that\b"
    r"|\b(?:which one|the (?:other|first|second|last))\b",
    re.IGNORECASE,
)
_CONTINUING = re.compile(
    r"\s*(?:and|but|or|also|so|then|what about|how about|what else|anything else|who else|where else|tell me more|more"
    r"|go on|why|how come|since when)\b",
    re.IGNORECASE,
)
_BARE = re.compile(r"\s*(?:why|how come|since when|where|when|who|how|which|how (?:much|many|long|far|often))\W*", re.I)
_ASKING_WORDS = """
what who whom whose which when where why how is are was were am do does did can could will would shall should may
might must has have had list name explain describe tell show give find compare summarize summarise translate write
"""
_ASKING = frozenset(_ASKING_WORDS.split())
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")

_HAN = re.compile(r"[\u3400-\u9fff]")
_POINTING_ZH = re.compile(
    r"(?<![其吉排])他(?!人)|她|它|牠|(?<![因如彼])此(?!外)|[這这](?!樣的|样的)|那(?!麼|么|些)|該(?!如何|怎)|该(?!如何|怎)"
    r"|其(?![他它實实中次])|前者|後者|后者|同一"
)
_CONTINUING_ZH = re.compile(
    r"\s*(?:那|還有|还有|另外|然後|然后|而且|以及|或者|並且|并且|又|再|所以|但|可是|為什麼呢|为什么呢)"
)
_ENDING_ZH = re.compile(r"呢[？?。！!\s]*$")


def needs_history(question: str) -> bool:
    """Whether the question seems to lean on what was said before it."""
    if not lexical.query_terms(question):
        return False
    if _HAN.search(question):
        return _leans_zh(question)
    if _BARE.fullmatch(question) or (_CONTINUING.match(question) and not _stands_after_why(question)):
        return True
    words = [word.casefold() for word in _WORD.findall(question)]
    content = lexical.content_terms(question)
    pointing = _POINTING.intersection(words) or _POINTING_BACK.search(question)
    if not content or (pointing and len(content) <= SHORT):
        return True
    return len(words) <= 3 and not _ASKING.intersection(words)


def _leans_zh(question: str) -> bool:
    if _CONTINUING_ZH.match(question) or (_ENDING_ZH.search(question) and len(question) <= SHORT_ZH):
        return True
    if _POINTING_ZH.search(question) and len(question) <= SHORT_ZH:
        return True
    return all(len(term) == 1 for term in lexical.content_terms(question))


def standalone(question: str, history: Sequence[str]) -> str:
    """What to search for. `history` holds the person's earlier messages of this branch, the oldest first."""
    leaning, parts = question, [question]
    for earlier in reversed(history[-REACH:]):
        if not needs_history(leaning):
            break
        leaning = earlier
        parts.append(earlier.strip()[:LONGEST])
    return " ".join(reversed([part for part in parts if part]))


def _stands_after_why(question: str) -> bool:
    """\"Why is the sky blue?\" begins like a follow-up and is none."""
    begun = re.match(r"\s*(why|how come|since when|so|then|or)\b", question, re.IGNORECASE)
    return bool(begun) and len(lexical.content_terms(question)) >= 2
