"""Asking the store from the event loop.

The functions of `store` block, so they run in a thread; and what they raise becomes a ChatError, whose text a person
can read. A function given here may do several things with the store: each change from thread to thread is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from bot.errors import ChatError, kind_of
from store.errors import StoreError

Given = ParamSpec("Given")
Result = TypeVar("Result")


async def ask(function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """What a blocking function says. Raises ChatError in place of a StoreError."""
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except StoreError as error:
        raise ChatError(kind_of(error) or "store_failed", detail=str(error)) from error
