"""The redactor, loaded once: it takes seconds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from finetune.redact import Redactor

Redact = Callable[..., str]


@pytest.fixture(scope="session")
def redactor() -> Redactor:
    return Redactor()


@pytest.fixture
def redact(redactor: Redactor) -> Redact:
    """One text, and what becomes of it."""

    def redact(text: str, *names: str) -> str:
        return redactor.conversation([text], names)[0][0]

    return redact
