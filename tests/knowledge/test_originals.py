"""Originals are there when the catalogue needs them, and gone when somebody removed them."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knowledge.originals import Kept, Originals
from store.errors import StoreFull, StoreUnreachable


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path / "originals")


def keep(originals: Originals, content: bytes = b"hello", owner: str = "person:1", name: str = "a.txt") -> Kept:
    path = originals.folder.parent / "given"
    path.write_bytes(content)
    return originals.keep(path, owner=owner, source="file:", name=name, mime="text/plain", added_by=7)


def files(originals: Originals) -> list[Path]:
    return [path for path in originals.folder.rglob("*") if path.is_file()]


def test_what_is_kept_is_the_same_bytes_for_the_owner_only(originals: Originals) -> None:
    kept = keep(originals, b"\x00\xff" * 2_000_000)
    path = originals.path(kept.original)
    assert path.read_bytes() == b"\x00\xff" * 2_000_000
    assert kept.source == f"file:{kept.sha256}"
    assert kept.size == 4_000_000
    assert kept.original.startswith(f"{kept.sha256[:2]}/person-1-{kept.sha256}-")
    assert all(each.stat().st_mode & 0o077 == 0 for each in files(originals))


def test_only_what_the_catalogue_has_comes_back(originals: Originals) -> None:
    new, settled, gone = (keep(originals, content) for content in (b"1", b"2", b"3"))
    originals.settle(settled.original)
    originals.settle(gone.original)
    originals.mark_gone(gone.original)
    assert list(originals.kept()) == [settled]
    assert {(kept.sha256, state) for kept, state in originals.half_done(-1)} == {
        (new.sha256, "new"),
        (gone.sha256, "gone"),
    }
    assert list(originals.half_done(3600)) == []
    originals.unmark(gone.original)
    assert set(originals.kept()) == {settled, gone}


def test_what_is_given_to_another_owner_is_theirs_in_whatever_state_it_is(originals: Originals) -> None:
    new, settled, gone, anothers = (keep(originals, content) for content in (b"1", b"2", b"3", b"4"))
    for kept in (settled, gone, anothers):
        originals.settle(kept.original)
    originals.mark_gone(gone.original)
    before = len(files(originals))
    for kept in (new, settled, gone):
        originals.give(kept.original, "group:组")
        originals.give(kept.original, "group:组")
    originals.give("ab/never-was.txt", "group:组")
    assert set(originals.kept()) == {replace(settled, owner="group:组"), anothers}
    assert {(kept.original, kept.owner, state) for kept, state in originals.half_done(-1)} == {
        (new.original, "group:组", "new"),
        (gone.original, "group:组", "gone"),
    }
    assert len(files(originals)) == before
    assert all(each.stat().st_mode & 0o077 == 0 for each in files(originals))


def test_an_original_that_could_not_be_given_away_is_whose_it_was(
    originals: Originals, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep(originals)
    originals.settle(kept.original)
    before = set(files(originals))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(StoreFull):
        patch.setattr(os, "fsync", full)
        originals.give(kept.original, "person:2")
    assert list(originals.kept()) == [kept]
    assert set(files(originals)) == before


def test_one_that_is_dropped_leaves_nothing_and_may_be_dropped_twice(originals: Originals) -> None:
    kept = keep(originals)
    originals.settle(kept.original)
    originals.drop(kept.original)
    originals.drop(kept.original)
    assert files(originals) == []


def test_the_same_content_kept_twice_is_two_files_that_do_not_share_their_fate(originals: Originals) -> None:
    first, second = keep(originals), keep(originals)
    originals.drop(first.original)
    assert originals.path(second.original).read_bytes() == b"hello"


@pytest.mark.parametrize(
    "owner", ["group:telegram:-100", "../../../etc", "person:1/../2", "a\x00b", "猫", "x" * 5000, ""]
)
@pytest.mark.parametrize(
    "name", ["../../a.pdf", "a.json", "a.new", "a.gone", "x" * 300, "a.PDF", "a." + "y" * 300, "猫.猫"]
)
def test_no_name_leads_out_of_the_folder(originals: Originals, owner: str, name: str) -> None:
    kept = keep(originals, owner=owner, name=name)
    originals.settle(kept.original)
    assert originals.path(kept.original).resolve().is_relative_to(originals.folder.resolve())
    assert originals.path(kept.original).read_bytes() == b"hello"
    (found,) = originals.kept()
    assert (found.owner, found.name) == (owner, name)


def test_a_card_that_cannot_be_read_hides_no_other(originals: Originals, caplog: pytest.LogCaptureFixture) -> None:
    cut, other, strange = (keep(originals, content) for content in (b"1", b"2", b"3"))
    for kept in (cut, other, strange):
        originals.settle(kept.original)
    originals.path(cut.original).with_suffix(".json").write_text('{"owner": "per')
    originals.path(strange.original).with_suffix(".json").write_text("[]")
    assert list(originals.kept()) == [other]
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, StoreFull), (errno.EROFS, StoreUnreachable)])
@pytest.mark.parametrize("step", ["fsync", "fchmod", "open"])
def test_a_disk_that_cannot_be_written_is_told_and_leaves_nothing(
    originals: Originals, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], step: str
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    path = originals.folder.parent / "given"
    path.write_bytes(b"hello")
    originals.folder.mkdir()
    with monkeypatch.context() as patch, pytest.raises(kind, match="originals"):
        patch.setattr(os, step, failing)
        originals.keep(path, owner="person:1", source="file:", name="a.txt", mime="", added_by=None)
    assert files(originals) == []


def test_a_file_that_cannot_be_read_is_no_fault_of_ours(originals: Originals, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        originals.keep(tmp_path / "none", owner="person:1", source="file:", name="a", mime="", added_by=None)
    with pytest.raises(IsADirectoryError):
        originals.keep(tmp_path, owner="person:1", source="file:", name="a", mime="", added_by=None)


def test_a_copy_that_was_cut_is_deleted_later(originals: Originals) -> None:
    originals.folder.mkdir()
    (originals.folder / "0123.part").write_bytes(b"half")
    assert list(originals.half_done(3600)) == []
    assert len(files(originals)) == 1
    assert list(originals.half_done(-1)) == []
    assert files(originals) == []
