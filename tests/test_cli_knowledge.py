"""`familiar knowledge`, as an operator gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import conversations, feedback, people
from store.session import Store
from store.tables import Message

FAMILIAR = str(Path(sys.executable).with_name("familiar"))


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "harbour.md").write_text("# Harbour\n\nThe code of the harbour gate is 4711.\n")
    (folder / "灯塔.md").write_text("# 灯塔指南\n\n灯塔的门票是三十元。\n")
    return folder


@pytest.fixture
def environment(data: Path, documents: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAMILIAR_")}
    places = {"FAMILIAR_DATA__FOLDER": str(data), "FAMILIAR_KNOWLEDGE__FOLDER": str(documents)}
    return {**clean, **places, "COLUMNS": "160"}


def knowledge(environment: dict[str, str], *words: str, code: int = 0) -> str:
    ran = subprocess.run([FAMILIAR, "knowledge", *words], env=environment, capture_output=True, text=True, timeout=100)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_a_folder_is_taken_in_listed_searched_and_followed(environment: dict[str, str], documents: Path) -> None:
    assert "2 added" in knowledge(environment, "sync")
    assert "2 unchanged" in knowledge(environment, "sync")
    listed = knowledge(environment, "list")
    assert "harbour.md" in listed
    assert "灯塔指南" in listed
    assert "4711" in knowledge(environment, "search", "What is the gate's code?", "--limit", "1")
    assert "三十元" in knowledge(environment, "search", "门票多少钱？", "--limit", "1")
    (documents / "harbour.md").write_text("# Harbour\n\nThe code of the harbour gate is 0815.\n")
    (documents / "灯塔.md").unlink()
    assert "1 changed, 1 removed" in knowledge(environment, "sync")
    found = knowledge(environment, "search", "What is the gate's code?")
    assert "0815" in found
    assert "4711" not in found
    assert "1 documents" in knowledge(environment, "status")


def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(environment: dict[str, str], documents: Path) -> None:
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7 cut")
    said = knowledge(environment, "sync", code=1)
    assert "2 added" in said
    assert "not taken in: broken.pdf" in said
    assert "not taken in: broken.pdf" in knowledge(environment, "list")


def test_a_file_is_added_and_removed(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "ferries.txt"
    file.write_text("The ferry to Skerry Island leaves at seven.\n")
    assert "ferries.txt: 1 chunks" in knowledge(environment, "add", str(file))
    assert "nothing new" in knowledge(environment, "add", str(file))
    assert "ferries.txt is removed" in knowledge(environment, "remove", "1")
    assert "There is no document 1" in knowledge(environment, "remove", "1", code=1)
    assert "no such file" in knowledge(environment, "add", str(tmp_path / "none.txt"), code=1)


def test_a_page_of_this_machine_is_not_fetched(environment: dict[str, str]) -> None:
    assert "127.0.0.1" in knowledge(environment, "add", "http://127.0.0.1:8000/secret", code=1)


def test_an_emptied_folder_is_refused_unless_it_is_meant(environment: dict[str, str], documents: Path) -> None:
    knowledge(environment, "sync")
    for file in documents.iterdir():
        file.unlink()
    assert "--allow-empty" in knowledge(environment, "sync", code=1)
    assert "2 removed" in knowledge(environment, "sync", "--allow-empty")


def test_questions_are_evaluated_and_malformed_lines_are_named(environment: dict[str, str], tmp_path: Path) -> None:
    knowledge(environment, "sync")
    questions = tmp_path / "questions.jsonl"
    asked = [
        {"question": "What is the code of the harbour gate?", "document": "harbour.md"},
        {"question": "门票多少钱？", "answer": "三十元"},
    ]
    questions.write_text("".join(f"{json.dumps(each)}\n" for each in asked) + "{cut\n")
    said = knowledge(environment, "eval", str(questions))
    assert "line 3 is left out" in said
    assert "2 questions with an answer: recall 1.00 at 1" in said
    assert "too few questions" in said
    assert "estimate" in knowledge(environment, "eval")


def test_the_index_is_made_anew(environment: dict[str, str]) -> None:
    knowledge(environment, "sync")
    assert "2 chunks in the index" in knowledge(environment, "rebuild")
    assert "2 chunks in the index" in knowledge(environment, "rebuild", "--everything")
    assert "4711" in knowledge(environment, "search", "What is the gate's code?")


def test_without_documents_it_is_said_how_to_have_some(environment: dict[str, str]) -> None:
    assert "There are no documents" in knowledge(environment, "list")
    assert "No gaps" in knowledge(environment, "gaps")


def asked(data: Path, name: str, *questions: str, agreed: bool = True) -> list[Message]:
    """Questions of a person's, each with a reply for which no document was good enough."""
    replies = []
    with Store(f"sqlite:///{data / 'familiar.db'}") as store:
        person = people.person_for(store, "telegram", name, name)
        assert person.id is not None
        if agreed:
            people.give_consent(store, person.id, "yes")
        for question in questions:
            conversation = conversations.start(store, person.id, "telegram", "familiar")
            assert conversation.id is not None
            message = conversations.add_user(store, conversation.id, None, question)
            reply = Message(conversation_id=conversation.id, parent_id=message.id, role="assistant", content="Hm.")
            reply.relevance = 0.1
            replies.append(conversations.add_reply(store, reply))
    return replies


def test_what_the_documents_did_not_answer_is_listed_alike_questions_together(
    environment: dict[str, str], data: Path
) -> None:
    asked(data, "ada", "When is high tide?", "怎么申请退款？", "Who pays for the [parking]?")
    replies = asked(data, "bo", "At what time is high tide today?", "如何办理退款？", "When is high tide?")
    asked(data, "cy", "What does Cy earn?", agreed=False)
    with Store(f"sqlite:///{data / 'familiar.db'}") as store:
        person = people.with_identity(store, "telegram", "bo")
        assert person is not None
        assert person.id is not None
        assert replies[0].id is not None
        feedback.rate(store, replies[0].id, person.id, -1)
    said = knowledge(environment, "gaps")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    assert [row[:2] for row in rows] == [["3", "2"], ["2", "2"], ["1", "1"]]
    assert [row[2] for row in rows] == ["When is high tide?", "如何办理退款？", "Who pays for the [parking]?"]
    assert rows[0][3] == "nothing found, rated down"
    assert "Not shown: 1 " in said
    assert "Cy" not in said
    assert len([line for line in knowledge(environment, "gaps", "--limit", "1").splitlines() if "│" in line]) == 1


@pytest.fixture
def watching(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """`familiar knowledge sync --watch`."""
    process = subprocess.Popen(
        [FAMILIAR, "knowledge", "sync", "--watch"],
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """The next line that holds this; what comes before it is passed over. pytest's time limit ends a wait in vain."""
    assert process.stdout is not None
    passed = []
    for line in process.stdout:
        if text in line:
            return line
        passed.append(line)
    raise AssertionError(f"it ended without {text!r}: {''.join(passed)}")


def test_a_folder_is_followed_until_ctrl_c(
    watching: subprocess.Popen[str], environment: dict[str, str], documents: Path
) -> None:
    line_with(watching, "2 added")
    line_with(watching, "Ctrl-C to leave")
    (documents / "ferries.md").write_text("# Ferries\n\nThe ferry to Skerry leaves at seven.\n")
    line_with(watching, "1 added")
    assert "at seven" in knowledge(environment, "search", "When does the ferry leave?", "--limit", "1")
    (documents / "ferries.md").write_text("# Ferries\n\nThe ferry to Skerry leaves at nine.\n")
    line_with(watching, "1 changed")
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7 cut")
    line_with(watching, "not taken in: broken.pdf")
    (documents / "ferries.md").unlink()
    line_with(watching, "1 removed")
    watching.send_signal(signal.SIGINT)
    rest, _ = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert "Traceback" not in rest
    assert "at nine" not in knowledge(environment, "search", "When does the ferry leave?")
    assert "waiting for the index: 0" in knowledge(environment, "status")
