"""The index keeps up by itself, whatever is done to the documents, and whoever searches meanwhile."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from knowledge import follower
from knowledge.vectors import VectorIndex
from settings import Knowledge
from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED
from tests.knowledge.vector_index import (
    ADA,
    BEN,
    DIMENSIONS,
    MODEL,
    add,
    all_chunk_ids,
    ids_in_chroma,
    index_on,
    named,
    texts_found,
    vector_of,
)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(follower, "_AFTER_FAILURE_S", 0.05)


def until(done: Callable[[], bool]) -> None:
    """pytest's own time limit ends it when it never comes."""
    while not done():
        time.sleep(0.02)


def test_a_follower_brings_in_what_comes_and_takes_out_what_goes(catalogue: Catalogue, tmp_path: Path) -> None:
    with index_on(tmp_path) as index:
        index.follow()
        index.follow()  # twice is once
        gone = add(catalogue, ADA, "gone", named("gone", 3))
        add(catalogue, SHARED, "kept", named("kept", 3))
        until(lambda: catalogue.pending_count() == 0)
        catalogue.remove([gone.id])
        until(lambda: catalogue.pending_count() == 0)
        assert index.search(vector_of("gone 1"), [ADA], 5) == []
        assert len(index.search(vector_of("gone 1"), [ADA, SHARED], 5)) == 3
    assert "vector-index" not in {each.name for each in threading.enumerate()}
    assert ids_in_chroma(tmp_path) == all_chunk_ids(catalogue)


def test_a_follower_goes_on_after_a_failure_and_says_so(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from knowledge.chroma import OpenChroma

    failed = threading.Event()

    def full(*_: object) -> None:
        failed.set()
        raise OSError(28, "No space left on device")

    with index_on(tmp_path) as index, caplog.at_level(logging.WARNING, "familiar"):
        with monkeypatch.context() as patched:
            patched.setattr(OpenChroma, "put", full)
            add(catalogue, SHARED, "note", ["note"])
            index.follow()
            assert failed.wait(60)
            assert texts_found(catalogue, index, "note", [SHARED]) == ["note"]
        until(lambda: catalogue.pending_count() == 0)
        assert texts_found(catalogue, index, "note", [SHARED]) == ["note"]
    assert "No room is left on the disk" in caplog.text


def test_many_threads_search_while_documents_come_and_go(catalogue: Catalogue, tmp_path: Path) -> None:
    add(catalogue, SHARED, "always", named("always", 20))
    add(catalogue, ADA, "hers", named("hers", 20))
    failures: list[BaseException] = []
    over = threading.Event()

    def search(index: VectorIndex, number: int) -> None:
        try:
            while not over.is_set():
                assert texts_found(catalogue, index, f"always {number}", [SHARED], 1) == [f"always {number}"]
                assert texts_found(catalogue, index, f"hers {number}", [ADA, BEN], 1) == [f"hers {number}"]
        except BaseException as error:
            failures.append(error)

    with index_on(tmp_path) as index:
        index.follow()
        threads = [threading.Thread(target=search, args=(index, number)) for number in range(3)]
        for thread in threads:
            thread.start()
        for number in range(6):
            document = add(catalogue, (SHARED, ADA)[number % 2], f"more {number}", named(f"more {number}", 150))
            if number % 3 != 2:
                catalogue.remove([document.id])
            index.apply(wait=True)
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert ids_in_chroma(tmp_path) == all_chunk_ids(catalogue)


@pytest.mark.parametrize("answer", ["nothing", "an error"])
def test_a_search_that_falls_into_a_change_of_the_same_process_is_asked_again(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Chroma finds a vector, and when it looks for what belongs to it, that is gone; or the other way round."""
    import langchain_chroma
    from chromadb.errors import InternalError

    add(catalogue, ADA, "hers", named("hers", 3))
    with index_on(tmp_path) as index:
        index.follow()
        index.apply(wait=True)
        chroma = index._indexer.chroma
        assert chroma is not None
        ask = langchain_chroma.Chroma.similarity_search_by_vector_with_relevance_scores

        def disturbed(store: langchain_chroma.Chroma, *words: Any, **more: Any) -> Any:
            monkeypatch.setattr(langchain_chroma.Chroma, ask.__name__, ask)
            chroma.delete(store._collection.name, [999])
            if answer == "an error":
                raise InternalError("Error finding id")
            return []

        monkeypatch.setattr(langchain_chroma.Chroma, ask.__name__, disturbed)
        assert len(index.search(vector_of("hers 1"), [ADA], 5)) == 3


def test_nothing_is_downloaded_or_told_to_anybody(tmp_path: Path) -> None:
    """In a process in which every connection to another machine would fail loudly."""
    script = """
import socket, sys, threading
from pathlib import Path
asked = []
def refuse(self, address):
    asked.append(address)
    raise OSError(f"a connection to {address}")
socket.socket.connect = refuse
socket.getaddrinfo = lambda *words, **_: asked.append(words) or []
from tests.knowledge.vector_index import *
folder = Path(sys.argv[1])
with Catalogue(folder) as catalogue, index_on(folder) as index:
    add(catalogue, "shared", "note", named("note", 20))
    index.apply(wait=True)
    assert index.search(vector_of("note 1"), ["shared", "person:1"], 3)
    assert index.check() == []
    assert [each.name for each in threading.enumerate()] == ["MainThread"], threading.enumerate()
assert not asked, asked
assert "onnxruntime" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Documents(RuleBasedStateMachine):
    """Two processes' worth of indexes, of which any may apply, search, close and open at any time."""

    texts = st.lists(st.integers(0, 12).map(str), min_size=0, max_size=5)
    owners = st.sampled_from([SHARED, ADA, BEN])

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.place = Path(self.folder.name)
        self.catalogue = Catalogue(self.place).open()
        self.indexes = [self._new(), self._new()]
        self.documents: dict[tuple[str, int], list[str]] = {}

    def _new(self) -> VectorIndex:
        return VectorIndex(self.catalogue, Knowledge(), self.place, MODEL, DIMENSIONS).open()

    @rule(owner=owners, source=st.integers(0, 3), texts=texts)
    def put(self, owner: str, source: int, texts: list[str]) -> None:
        add(self.catalogue, owner, str(source), texts)
        self.documents[owner, source] = texts

    @rule(owner=owners, source=st.integers(0, 3))
    def remove(self, owner: str, source: int) -> None:
        if self.documents.pop((owner, source), None) is not None:
            (document,) = self.catalogue.by_source(owner, f"file:{source}").values()
            self.catalogue.remove([document.id])

    @rule(owner=owners)
    def remove_of(self, owner: str) -> None:
        self.catalogue.remove_of(owner)
        self.documents = {key: texts for key, texts in self.documents.items() if key[0] != owner}

    @rule(owner=owners, to=owners)
    def move(self, owner: str, to: str) -> None:
        self.catalogue.move(owner, to)
        for at, source in [key for key in self.documents if key[0] == owner and (to, key[1]) not in self.documents]:
            self.documents[to, source] = self.documents.pop((at, source))

    @rule(which=st.integers(0, 1))
    def apply(self, which: int) -> None:
        self.indexes[which].apply(wait=True)
        assert ids_in_chroma(self.place) == all_chunk_ids(self.catalogue)

    @rule(which=st.integers(0, 1))
    def open_anew(self, which: int) -> None:
        self.indexes[which].close()
        self.indexes[which] = self._new()

    @invariant()
    def everybody_finds_what_is_theirs_and_no_more(self) -> None:
        if not hasattr(self, "indexes"):
            return
        for index in self.indexes:
            for readable in ([SHARED], [ADA, BEN]):
                theirs = sorted(text for key, texts in self.documents.items() if key[0] in readable for text in texts)
                assert sorted(texts_found(self.catalogue, index, "question", readable, 100)) == theirs

    def teardown(self) -> None:
        if hasattr(self, "indexes"):
            for index in self.indexes:
                index.close()
            self.catalogue.close()
            self.folder.cleanup()


Documents.TestCase.settings = settings(
    max_examples=6, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
test_any_order_of_changes_and_searches_agrees_with_the_catalogue = Documents.TestCase
