"""What a turn has from documents: passages are found for its message, and those that there is room for go into it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from bot import passages as quoting
from bot import prompt as prompts
from bot.citations import Citations
from bot.retrieval import Finder, Retrieval, readable_by, retrieve
from bot.rewriting import rewritten
from bot.turn import Asked, Turn, id_of
from engine.client import EngineClient
from knowledge.passages import Passage
from settings import Knowledge as KnowledgeSettings
from store import quotations
from store.catalogue import owners
from store.session import Store


class Grounding:
    """For any number of turns at once."""

    def __init__(
        self, store: Store, client: EngineClient, settings: KnowledgeSettings, finder: Finder | None = None
    ) -> None:
        self._store = store
        self._client = client
        self._settings = settings
        self._finder = finder

    async def find(self, asked: Asked) -> Retrieval:
        """What the documents have that may be read in this conversation."""

        async def rewrite(question: str, before: Sequence[str]) -> str:
            return await rewritten(self._client, str(asked.person.id), question, before)

        return await retrieve(
            self._finder,
            self._settings,
            asked.message.content,
            asked.history,
            readable_by(asked.person, asked.conversation),
            rewrite,
        )

    async def message(self, turn: Turn, asked: Asked, variables: Mapping[str, str], budget: int) -> str:
        """The newest message as it is sent: with as many of the passages as their share of the room has place for.

        Notes in `turn` which these are. `budget` is the whole prompt's, in tokens. Raises PromptTooLong.
        """
        text = asked.message.sent or asked.message.content
        if not turn.retrieval.passages:
            return text
        bare = await prompts.build(asked.persona, variables, (), text, budget=budget, count=self._client.count)
        room = int((budget - bare.prompt_tokens) * self._settings.prompt_share)
        language = quoting.language_of(asked.message.content)
        readable = await asyncio.to_thread(self._quotable, asked, turn.retrieval.passages)
        turn.passages = await quoting.within(readable, text, room, self._client.count, language)
        turn.citations = Citations(len(turn.passages))
        return quoting.framed(turn.passages, text, language) if turn.passages else text

    def _quotable(self, asked: Asked, passages: Sequence[Passage]) -> Sequence[Passage]:
        """Note whose words the prompt will hold, so that they can be taken out again; none of somebody forgotten."""
        assert self._finder is not None, "it found these"
        givers = self._finder.givers(passages) - {id_of(asked.person)}
        if not givers or quotations.note(self._store, id_of(asked.message), givers):
            return passages
        return [passage for passage in passages if passage.owner == owners.SHARED]
