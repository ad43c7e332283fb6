"""What everybody may know about the engine: its phase, and how to reach it when it is ready.

The supervisor writes it (engine.supervisor), commands read it (engine.process), the client waits on it (engine.client).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

# "learning": its GPU is lent to a process that trains, and it goes on when it has it back
Phase = Literal["starting", "loading", "warming", "ready", "learning", "restarting", "stopped", "failed"]


class Address(BaseModel):
    """How to reach a ready engine and what it serves."""

    model_config = ConfigDict(frozen=True)

    url: str  # without a path, e.g. http://127.0.0.1:41234
    api_key: str
    model: str  # the name under which the base model is served
    max_model_len: int  # tokens, prompt and reply together
    model_folder: Path | None = None  # where the base model's files lie, if on this machine
    lora: bool = True  # can adapters be loaded?
    whole: str = ""  # name@version of the whole model that is served in the base model's place
    wholes: tuple[str, ...] = ()  # every registered one; one that is not served stands for what is


class State(BaseModel):
    """One moment of the engine."""

    model_config = ConfigDict(frozen=True)

    phase: Phase
    since: float  # unix time at which this phase began
    address: Address | None = None  # set when ready
    detail: str = ""  # why it restarts or failed, for a person
    log_tail: str = ""  # the end of vLLM's log, when failed
    restarts: int = 0
    sleeps: int = 0  # times that it has given its GPU away, and went on where it was
    asleep: bool = False  # it holds nothing of the GPU

    def served(self) -> Address:
        """The address of a ready engine."""
        assert self.address is not None
        return self.address


class Connection(Protocol):
    """Something that leads to a ready engine: one we supervise, or one by URL."""

    def wait(self) -> AsyncIterator[State]:
        """Yield each state as it changes; the last one is ready. Starts the engine if it is ours and stopped.

        Raises EngineFailed.
        """
        ...
