"""`familiar knowledge`, as an operator gives it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from knowledge.embedding import bundled

FAMILIAR = str(Path(sys.executable).with_name("familiar"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    bundled.ensure(folder, lambda text: None)
    return folder / "models"


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "harbour.md").write_text("# Harbour\n\nThe code of the harbour gate is 4711.\n")
    (folder / "灯塔.md").write_text("# 灯塔指南\n\n灯塔的门票是三十元。\n")
    return folder


@pytest.fixture
def environment(tmp_path: Path, models: Path, documents: Path) -> dict[str, str]:
    data = tmp_path / "data"
    data.mkdir()
    (data / "models").symlink_to(models)
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
