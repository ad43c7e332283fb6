"""Whatever is done in whatever order, documents, chunks, words, vectors and the index that follows agree."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from store.catalogue.catalogue import Catalogue
from tests.store.catalogue.made import MODEL, chunk, document, hash_of, put

OWNERS = ["shared", "person:1", "person:2", "group:telegram:-1"]
NAMES = st.sampled_from("abc")
WORDS = ["cat", "dog", "中文", "3.5"]
TEXTS = st.lists(st.sampled_from([f"{one} {other}" for one in WORDS for other in WORDS] + ["cat"]), max_size=6)
ONE_OWNER = st.sampled_from(OWNERS)


class Agreement(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.catalogue = Catalogue(Path(self.place.name)).open()
        self.documents: dict[tuple[str, str], list[str]] = {}  # by owner and source: the texts
        self.index: dict[int, str] = {}  # what the vector index would hold: chunk id and hash
        self.numbers: set[int] = set()  # of chunks that were ever seen

    def teardown(self) -> None:
        if hasattr(self, "catalogue"):
            assert self.catalogue.check() == []
            self.catalogue.close()
            self.place.cleanup()

    @rule(items=st.lists(st.tuples(ONE_OWNER, NAMES, TEXTS), min_size=1, max_size=3))
    def put(self, items: list[tuple[str, str, list[str]]]) -> None:
        put(self.catalogue, [(document(owner, name), [chunk(text) for text in texts]) for owner, name, texts in items])
        self.documents |= {(owner, f"file:{name}"): texts for owner, name, texts in items}

    @precondition(lambda self: self.documents)
    @rule(data=st.data(), name=NAMES)
    def rename(self, data: st.DataObject, name: str) -> None:
        owner, source = data.draw(st.sampled_from(sorted(self.documents)))
        if (owner, f"new:{name}") in self.documents:
            return
        kept = self.catalogue.by_source(owner, source)[source]
        self.catalogue.rename(kept.id, f"new:{name}", name, name, 1)
        self.documents[owner, f"new:{name}"] = self.documents.pop((owner, source))

    @precondition(lambda self: self.documents)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.documents)), unique=True, min_size=1, max_size=3))
        kept = [self.catalogue.by_source(owner, source)[source].id for owner, source in chosen]
        assert self.catalogue.remove(kept) == len(chosen)
        for key in chosen:
            del self.documents[key]

    @rule(owner=ONE_OWNER)
    def remove_of(self, owner: str) -> None:
        theirs = [key for key in self.documents if key[0] == owner]
        assert self.catalogue.remove_of(owner) == len(theirs)
        for key in theirs:
            del self.documents[key]

    @rule(owner=ONE_OWNER, to=ONE_OWNER)
    def move(self, owner: str, to: str) -> None:
        theirs = [source for at, source in self.documents if at == owner and (to, source) not in self.documents]
        assert self.catalogue.move(owner, to) == len(theirs)
        for source in theirs:
            self.documents[to, source] = self.documents.pop((owner, source))

    @rule(limit=st.integers(1, 8))
    def apply(self, limit: int) -> None:
        items = self.catalogue.pending(limit)
        for item in items:
            if item.action == "put":
                self.index[item.chunk_id] = item.hash
            else:
                self.index.pop(item.chunk_id, None)
        self.catalogue.done([item.id for item in items])

    @rule()
    def reopen(self) -> None:
        self.catalogue.close()
        self.catalogue.open()

    @rule()
    def sweep(self) -> None:
        assert self.catalogue.sweep_vectors(older_than_s=-60) == 0, "a removal leaves no vector behind"

    @invariant()
    def the_documents_are_those_that_were_put(self) -> None:
        kept = {
            (each.owner, each.source): [chunk.text for chunk in self.catalogue.chunks_of(each.id)]
            for each in self.catalogue.documents(OWNERS)
        }
        assert kept == self.documents

    @invariant()
    def each_word_finds_the_chunks_that_hold_it(self) -> None:
        for owner in OWNERS:
            texts = [text for key, held in self.documents.items() if key[0] == owner for text in held]
            for word in WORDS:
                hits = [hit for hit, _ in self.catalogue.search_words([word], [owner], 1000)]
                found = [each.text for each in self.catalogue.chunks(hits, [owner]).values()]
                assert sorted(found) == sorted(text for text in texts if word in text.split())

    @invariant()
    def each_chunk_has_its_vector_and_no_vector_is_left_over(self) -> None:
        every = [f"{one} {other}" for one in WORDS for other in WORDS] + ["cat"]
        held = {text for texts in self.documents.values() for text in texts}
        missing = set(self.catalogue.missing_vectors([hash_of(text) for text in every], MODEL))
        assert missing == {hash_of(text) for text in every if text not in held}

    @invariant()
    def the_index_will_be_as_it_should(self) -> None:
        keys = {chunk_id: hash_ for chunk_id, _, hash_ in self.catalogue.chunk_keys()}
        index = dict(self.index)
        for item in self.catalogue.pending(10_000):
            if item.action == "put":
                index[item.chunk_id] = item.hash
            else:
                index.pop(item.chunk_id, None)
        assert index == keys


Agreement.TestCase.settings = settings(
    max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
test_everything_stays_in_agreement = Agreement.TestCase
