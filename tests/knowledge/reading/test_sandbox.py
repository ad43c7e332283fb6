"""Whatever a file does to its parser, the caller gets a refusal by name, and the next file is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from knowledge.errors import DocumentDamaged, DocumentEncrypted, DocumentTooSlow
from knowledge.reading import Reader, ReadingStopped
from settings import Knowledge
from tests.knowledge.reading.making import save

MISBEHAVING = "tests.knowledge.reading.misbehaving:parse"


@pytest.fixture
def reader() -> Iterator[Reader]:
    knowledge = Knowledge(parse_timeout_s=2, parse_memory_mb=256, ocr_pages=5)
    with Reader(knowledge, workers=2, function=MISBEHAVING) as reader:
        yield reader


def text_of(reader: Reader, path: Path) -> str:
    return reader.read(path, path.name).blocks[0].text


def test_a_parser_that_hangs_is_killed_and_the_next_file_is_read(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentTooSlow, match=r"hung\.pdf: .*2 s.*parse_timeout_s"):
        reader.read(save(tmp_path, "a", "sleep 100"), "hung.pdf")
    assert text_of(reader, save(tmp_path, "b", "well")) == "done"


def test_a_parser_that_never_lets_go_of_the_processor_is_killed(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentTooSlow, match=r"spin\.pdf"):
        reader.read(save(tmp_path, "a", "spin"), "spin.pdf")


def test_a_parser_that_eats_memory_is_stopped_at_its_limit(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentTooSlow, match=r"fat\.docx: .*256 MB.*parse_memory_mb"):
        reader.read(save(tmp_path, "a", "eat"), "fat.docx")
    assert text_of(reader, save(tmp_path, "b", "well")) == "done"


def test_a_crash_is_a_refusal_that_names_the_file_and_the_signal(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentDamaged, match=r"evil\.pdf: .*crash.*SIGSEGV"):
        reader.read(save(tmp_path, "a", "segfault"), "evil.pdf")
    with pytest.raises(DocumentDamaged, match=r"gone\.pdf: .*exit status 0"):
        reader.read(save(tmp_path, "b", "exit"), "gone.pdf")
    assert text_of(reader, save(tmp_path, "c", "well")) == "done"


def test_an_exception_is_a_refusal_of_one_line(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentDamaged) as refused:
        reader.read(save(tmp_path, "a", "raise"), "odd.pdf")
    assert str(refused.value) == "odd.pdf: it cannot be read (ValueError: the second line)"


def test_a_typed_refusal_keeps_its_type(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentEncrypted, match=r"^locked\.pdf: it needs a password$"):
        reader.read(save(tmp_path, "a", "lock"), "locked.pdf")


def test_what_a_parser_prints_is_not_taken_for_its_answer(reader: Reader, tmp_path: Path) -> None:
    assert text_of(reader, save(tmp_path, "a", "print")) == "done"


def test_an_answer_of_many_megabytes_arrives_whole(reader: Reader, tmp_path: Path) -> None:
    assert len(text_of(reader, save(tmp_path, "a", "large 20000000"))) == 20_000_000


def test_one_process_reads_many_files_and_is_replaced_after_its_share(tmp_path: Path) -> None:
    from knowledge.reading.sandbox import Sandbox

    with Reader(Knowledge(), workers=1, function=MISBEHAVING) as reader:
        path = save(tmp_path, "a", "pid")
        assert len({text_of(reader, path) for _ in range(5)}) == 1
        reader._sandbox.close()
        reader._sandbox = Sandbox(1, 256, function=MISBEHAVING, files_per_worker=2)
        assert len({text_of(reader, path) for _ in range(6)}) == 3


def test_the_process_gets_no_secrets(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAMILIAR_TELEGRAM_TOKEN", "123:abc")
    assert "FAMILIAR" not in text_of(reader, save(tmp_path, "a", "environment"))


def test_the_process_can_write_no_file(reader: Reader, tmp_path: Path) -> None:
    target = tmp_path / "written"
    with pytest.raises(DocumentDamaged):
        reader.read(save(tmp_path, "a", f"write {target}"), "evil.pdf")
    assert not target.exists() or not target.read_text()


def test_pages_that_are_being_recognised_get_their_time_anew_but_not_for_ever(reader: Reader, tmp_path: Path) -> None:
    assert text_of(reader, save(tmp_path, "a", "pages 5")) == "done"  # 2.5 s in all, where 2 s are allowed at a time
    with pytest.raises(DocumentTooSlow):
        reader.read(save(tmp_path, "b", "pages 40"), "long.pdf")


def test_many_files_at_the_same_time_each_get_their_own_answer(reader: Reader, tmp_path: Path) -> None:
    orders = ["well", "segfault", "lock", "raise", "large 1000"] * 6
    paths = [save(tmp_path, str(index), order) for index, order in enumerate(orders)]

    def outcome(path: Path) -> str:
        try:
            return str(len(text_of(reader, path)))
        except (DocumentDamaged, DocumentEncrypted) as refused:
            return type(refused).__name__

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(outcome, paths))
    assert outcomes == ["4", "DocumentDamaged", "DocumentEncrypted", "DocumentDamaged", "1000"] * 6


def test_closing_leaves_no_process_and_no_thread_that_waits(reader: Reader, tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    stopped: list[BaseException] = []
    file = save(tmp_path, "a", "child")

    def read() -> None:
        try:
            reader.read(file, "a")
        except ReadingStopped as error:
            stopped.append(error)

    with Reader(Knowledge(), workers=1, function=MISBEHAVING) as reader:
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        while not any(child.children() for child in set(psutil.Process().children()) - before):
            pass
        started = set(psutil.Process().children(recursive=True)) - before
    for thread in threads:
        thread.join(20)
    assert len(stopped) == 3
    assert not [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    with pytest.raises(ReadingStopped):
        reader.read(save(tmp_path, "a", "well"), "a")


def test_a_worker_that_was_killed_while_it_waited_is_replaced_unseen(reader: Reader, tmp_path: Path) -> None:
    pid = int(text_of(reader, save(tmp_path, "a", "pid")))
    psutil.Process(pid).kill()
    assert text_of(reader, save(tmp_path, "b", "well")) == "done"
