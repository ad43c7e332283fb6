"""A run's files are whole or not there, whatever happens in between."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finetune import job as jobs
from finetune.errors import DataRefused
from finetune.examples import Judged, Preference, Source
from finetune.files import read_json, read_lines, write_json, write_lines
from finetune.job import Job, Progress, progress_as_json, progress_from_json
from finetune.record import Point
from settings import REPOSITORY, Finetune
from tests.finetune.tiny import example


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = [{"text": "钟 👩‍👩‍👧 \u2028 line"}, {"text": ""}, [1, 2.5, None]]

    assert write_lines(tmp_path / "deep" / "rows.jsonl", rows) == 3
    write_json(tmp_path / "one.json", rows)

    assert list(read_lines(tmp_path / "deep" / "rows.jsonl")) == rows
    assert read_json(tmp_path / "one.json") == rows


def test_no_rows_make_an_empty_file(tmp_path: Path) -> None:
    write_lines(tmp_path / "rows.jsonl", [])

    assert list(read_lines(tmp_path / "rows.jsonl")) == []


def test_a_write_that_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_lines(file, [1, 2])

    def cut() -> Iterator[int]:
        yield 3
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        write_lines(file, cut())

    assert list(read_lines(file)) == [1, 2]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_lines(file, ["old"])
    script = (
        "import resource, sys; from pathlib import Path; from finetune.files import write_lines\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "try: write_lines(Path(sys.argv[1]), ['x' * 1000] * 100)\n"
        "except OSError as error: sys.exit(7)"
    )

    ended = subprocess.run([sys.executable, "-c", script, str(file)], cwd=REPOSITORY)

    assert ended.returncode == 7
    assert list(read_lines(file)) == ["old"]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cut_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n{"a": \n')

    with pytest.raises(DataRefused, match="line 2"):
        list(read_lines(file))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"not json"])
def test_what_is_not_json_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "job.json").write_bytes(content)

    with pytest.raises(DataRefused, match=r"job\.json"):
        read_json(tmp_path / "job.json")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"gone\.json"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(DataRefused, match=r"gone\.jsonl"):
        list(read_lines(tmp_path / "gone.jsonl"))


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    """Other readers of JSON stumble over NaN."""
    with pytest.raises(ValueError):
        write_json(tmp_path / "one.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def full_job(folder: Path) -> Job:
    source = Source("log:3", datetime(2026, 5, 1, 12, tzinfo=UTC), (4, 6), (1,), "telegram:-100", "zh")
    asked = ({"role": "user", "content": "谁？"},)
    return Job(
        Path("/models/base"),
        folder,
        Finetune(rank=8, method="rslora"),
        (replace(example("Who?", "Oakes 👋"), source=source),),
        (example("Why?", "So."),),
        (example("Hello", "Hello."),),
        (Preference(asked, "好", "坏", "corrected", source, 2.0),),
        (Judged(asked, "好", True, source),),
        Path("/adapters/familiar/3"),
        "familiar@3",
        Path("/adapters/familiar/3"),
        "familiar@3",
        12,
    )


def test_a_job_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    jobs.save(full_job(tmp_path))

    assert jobs.load(tmp_path) == full_job(tmp_path)


def test_the_smallest_job_comes_back_too(tmp_path: Path) -> None:
    job = Job(Path("/models/base"), tmp_path, Finetune(), (), ())
    jobs.save(job)

    assert jobs.load(tmp_path) == job


def test_texts_of_a_job_lie_nowhere_but_in_its_data(tmp_path: Path) -> None:
    jobs.save(full_job(tmp_path))

    assert "Oakes" not in (tmp_path / "job.json").read_text()
    assert all(file.parent.name == "data" or file.name == "job.json" for file in tmp_path.rglob("*") if file.is_file())


def test_a_job_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"job\.json"):
        jobs.load(tmp_path)
    jobs.save(full_job(tmp_path))
    (tmp_path / "job.json").write_text('{"model_folder": "/models/base", "settings": {"rank": 7}}')
    with pytest.raises(DataRefused, match=r"job\.json"):
        jobs.load(tmp_path)


def test_progress_goes_through_a_pipe(tmp_path: Path) -> None:
    for progress in (Progress("training", 3, 9, "里程", Point(3, 1.5, None, 1e-4)), Progress("evaluating", 0, 0)):
        assert progress_from_json(progress_as_json(progress)) == progress
