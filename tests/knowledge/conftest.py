"""What many tests of documents begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge.embedding.bundled import NAME, BundledEmbedder
from store.catalogue.catalogue import Catalogue


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    with Catalogue(tmp_path) as catalogue:
        yield catalogue


@pytest.fixture(scope="session")
def bundled(models: Path) -> Iterator[BundledEmbedder]:
    """The real embedding model, loaded once."""
    embedder = BundledEmbedder(models / NAME, threads=2)
    yield embedder
    embedder.close()
