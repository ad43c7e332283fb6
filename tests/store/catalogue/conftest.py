from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.catalogue.catalogue import Catalogue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "knowledge"


@pytest.fixture
def catalogue(folder: Path) -> Iterator[Catalogue]:
    with Catalogue(folder) as catalogue:
        yield catalogue
