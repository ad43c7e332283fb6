"""The same index in a Chroma server, which may go away and come back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge import chroma
from knowledge.chroma import OpenChroma
from knowledge.errors import IndexDamaged, KnowledgeError
from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED
from tests.knowledge.chroma_server import ChromaServer
from tests.knowledge.vector_index import (
    ADA,
    BEN,
    add,
    all_chunk_ids,
    ids_in_chroma,
    index_on,
    named,
    texts_found,
    vector_of,
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    with ChromaServer(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_a_server_holds_and_finds_and_forgets(running: ChromaServer, tmp_path: Path) -> None:
    with Catalogue(tmp_path) as catalogue, index_on(tmp_path, url=running.url) as index:
        shared = add(catalogue, SHARED, "shared", named("shared", 700))
        add(catalogue, ADA, "diary", named("ada", 20))
        index.apply(wait=True)
        assert texts_found(catalogue, index, "shared 5", [SHARED, BEN], 1) == ["shared 5"]
        assert texts_found(catalogue, index, "ada 5", [SHARED, ADA], 1) == ["ada 5"]
        assert texts_found(catalogue, index, "ada 5", [BEN]) == []
        catalogue.remove([shared.id])
        index.apply(wait=True)
        assert index.check() == []
        assert ids_in_chroma(tmp_path, running.url) == all_chunk_ids(catalogue)
        assert not (tmp_path / "chroma").exists()


def test_readers_beside_the_writer_see_what_it_wrote(running: ChromaServer, tmp_path: Path) -> None:
    with (
        Catalogue(tmp_path) as catalogue,
        index_on(tmp_path, url=running.url) as writer,
        index_on(tmp_path, url=running.url) as reader,
    ):
        for number in range(3):
            add(catalogue, ADA, f"note {number}", [f"note {number}"])
            writer.apply(wait=True)
            assert texts_found(catalogue, reader, f"note {number}", [ADA], 1) == [f"note {number}"]
        writer.rebuild()
        assert len(reader.search(vector_of("note 1"), [ADA], 9)) == 3


def test_two_installations_on_one_server_leave_each_others_vectors_alone(running: ChromaServer, tmp_path: Path) -> None:
    for place in ("a", "b"):
        with Catalogue(tmp_path / place) as catalogue, index_on(tmp_path / place, url=running.url) as index:
            add(catalogue, SHARED, "note", [f"note of {place}"])
            index.apply(wait=True)
    for place in ("a", "b"):
        with Catalogue(tmp_path / place) as catalogue, index_on(tmp_path / place, url=running.url) as index:
            assert texts_found(catalogue, index, "note", [SHARED]) == [f"note of {place}"]
            assert index.check() == []


def test_somebody_elses_collection_on_the_server_is_not_dropped(running: ChromaServer, tmp_path: Path) -> None:
    theirs = OpenChroma(running.url)
    theirs.create("somebody-elses", {"use": "another"})
    with Catalogue(tmp_path) as catalogue, index_on(tmp_path, url=running.url) as index:
        add(catalogue, SHARED, "note", ["note"])
        index.apply(wait=True)
        index.rebuild()
    assert "somebody-elses" in {name for name, _ in theirs.collections()}
    theirs.retire()


def test_a_server_that_goes_is_named_and_one_that_comes_back_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    server = ChromaServer(tmp_path / "server").start()
    try:
        with Catalogue(tmp_path) as catalogue, index_on(tmp_path, url=server.url) as index:
            add(catalogue, SHARED, "before", ["before"])
            index.apply(wait=True)
            assert texts_found(catalogue, index, "before", [SHARED]) == ["before"]
            server.stop()
            add(catalogue, SHARED, "meanwhile", ["meanwhile"])
            with pytest.raises(KnowledgeError, match=f"{server.url}.*does not answer"):
                index.search(vector_of("before"), [SHARED], 5)
            with pytest.raises(KnowledgeError, match=f"{server.url}.*does not answer"):
                index.apply(wait=True)
            assert any(server.url in sentence for sentence in index.check())
            assert catalogue.pending_count() == 1
            server.start()
            index.apply(wait=True)
            assert texts_found(catalogue, index, "meanwhile", [SHARED]) == ["meanwhile", "before"]
            assert index.check() == []
    finally:
        server.stop()


def test_a_server_that_is_silent_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma, "SERVER_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://ada:secret@127.0.0.1:{silent.getsockname()[1]}"
        with Catalogue(tmp_path) as catalogue, index_on(tmp_path, url=url) as index:
            add(catalogue, SHARED, "note", ["note"])
            with pytest.raises(KnowledgeError, match="does not answer") as error:
                index.apply(wait=True)
            assert "secret" not in str(error.value)


def test_collections_lost_by_the_server_are_noticed_and_can_be_made_anew(tmp_path: Path) -> None:
    for place in ("first", "second"):
        (tmp_path / place).mkdir()
    server = ChromaServer(tmp_path / "first").start()
    try:
        with Catalogue(tmp_path) as catalogue, index_on(tmp_path, url=server.url) as index:
            add(catalogue, SHARED, "note", named("note", 5))
            index.apply(wait=True)
            server.stop()
            server.folder = tmp_path / "second"
            server.start()
            with pytest.raises(IndexDamaged, match="familiar knowledge rebuild"):
                index.search(vector_of("note 1"), [SHARED], 5)
            assert index.check() != []
            index.rebuild()
            assert texts_found(catalogue, index, "note 1", [SHARED], 1) == ["note 1"]
            assert index.check() == []
    finally:
        server.stop()
