"""A catalogue that cannot be used says so when it is opened or asked, and says how to get a new one."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.catalogue.catalogue import FILE, Catalogue
from store.catalogue.errors import CatalogueTooOld
from store.catalogue.schema import SCHEMA
from store.errors import StoreDamaged, StoreTooNew, StoreUnreachable
from tests.store.catalogue.made import add

REBUILD = "familiar knowledge rebuild"


def a_catalogue(folder: Path) -> Path:
    """The file of a closed catalogue that holds something."""
    with Catalogue(folder) as catalogue:
        for number in range(10):
            add(catalogue, "shared", f"d{number}", [f"word {number} {each}" for each in range(60)])
    return folder / FILE


def test_it_is_made_for_its_owner_only_and_holds_what_it_held(folder: Path) -> None:
    file = a_catalogue(folder)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with Catalogue(folder) as catalogue:
        assert catalogue.open() is catalogue
        assert catalogue.chunk_count() == 600
        assert catalogue.check() == []


def test_many_may_make_it_at_once(folder: Path, at_once: Callable[..., list[Any]]) -> None:
    catalogues = at_once(*[lambda: Catalogue(folder).open()] * 8)
    assert all(isinstance(each, Catalogue) for each in catalogues)
    for number, each in enumerate(catalogues):
        add(each, "shared", str(number), ["word"])
        each.close()
    with Catalogue(folder) as catalogue:
        assert catalogue.count(["shared"]) == 8


def test_a_closed_one_says_so(folder: Path) -> None:
    catalogue = Catalogue(folder)
    with pytest.raises(StoreUnreachable, match="not open"):
        catalogue.count(["shared"])
    catalogue.open().close()
    catalogue.close()
    with pytest.raises(StoreUnreachable, match="not open"):
        catalogue.set_meta("a", "b")


@pytest.mark.parametrize(("version", "error"), [(SCHEMA + 1, StoreTooNew), (SCHEMA - 1, CatalogueTooOld)])
def test_another_schema_is_refused_untouched(folder: Path, version: int, error: type[Exception]) -> None:
    file = a_catalogue(folder)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'catalogue.schema'", (version,))
    before = file.read_bytes()
    with pytest.raises(error, match=REBUILD):
        Catalogue(folder).open()
    assert file.read_bytes() == before


def test_another_programs_database_is_refused_untouched(folder: Path) -> None:
    folder.mkdir()
    with sqlite3.connect(folder / FILE) as database:
        database.execute("CREATE TABLE meta (key, value)")
    database.close()
    with pytest.raises(StoreDamaged, match=REBUILD):
        Catalogue(folder).open()
    with sqlite3.connect(folder / FILE) as database:
        assert database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (1,)


def overwrite(file: Path, start: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(start)
        opened.write(content)


def cut(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "no database": lambda file: file.write_bytes(b"Once upon a time\n" * 1000) and None,
    "garbage from the start": lambda file: overwrite(file, 0, b"\xa5" * 4096),
    "garbage in the middle": lambda file: overwrite(file, 4096, b"\xa5" * (file.stat().st_size - 3 * 4096)),
    "cut in the middle": cut,
}


@pytest.mark.parametrize("damage", ["no database", "garbage from the start"])
def test_what_is_no_database_is_not_opened(folder: Path, damage: str) -> None:
    DAMAGES[damage](a_catalogue(folder))
    with pytest.raises(StoreDamaged, match=REBUILD):
        Catalogue(folder).open()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_told_and_how_to_get_a_new_one(folder: Path, damage: str) -> None:
    DAMAGES[damage](a_catalogue(folder))
    with pytest.raises(StoreDamaged, match=REBUILD), Catalogue(folder) as catalogue:
        assert catalogue.check() != []
        for document in catalogue.documents(["shared"]):
            catalogue.chunks_of(document.id)
        add(catalogue, "shared", "more", [f"word {number} new" for number in range(60)])


def test_a_little_damage_is_found_by_checking(folder: Path) -> None:
    file = a_catalogue(folder)
    for page in range(4, file.stat().st_size // 4096 - 1, 3):
        overwrite(file, page * 4096, b"\xa5" * 4096)
    with Catalogue(folder) as catalogue:
        assert catalogue.check() != []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM length WHERE chunk_id = 5",
        "DELETE FROM vector WHERE id = 5",
        "DELETE FROM chunk WHERE id = 5",
        "UPDATE owner SET chunks = chunks + 1",
        "UPDATE document SET chunks = 3 WHERE id = 2",
        "DELETE FROM document WHERE id = 2",
        "DELETE FROM term WHERE term = 'word'",
        "INSERT INTO lexical (lexical) VALUES ('delete-all')",
    ],
)
def test_parts_that_do_not_fit_each_other_are_found_by_checking(folder: Path, statement: str) -> None:
    file = a_catalogue(folder)
    with sqlite3.connect(file) as database:
        database.execute(statement)
    database.close()
    with Catalogue(folder) as catalogue:
        assert catalogue.check() != []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "knowledge").write_text("a file")
    with pytest.raises(StoreUnreachable):
        Catalogue(tmp_path / "knowledge").open()
