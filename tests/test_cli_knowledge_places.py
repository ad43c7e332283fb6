"""`familiar knowledge add` with names that lead nowhere: each is told, and nothing fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FAMILIAR = str(Path(sys.executable).with_name("familiar"))


def test_names_that_no_file_can_have_are_told_like_any_other_that_is_missing(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAMILIAR_")}
    environment = {**clean, "FAMILIAR_DATA__FOLDER": str(tmp_path), "COLUMNS": "1000"}
    names = ["~nobody-here/x", "x" * 300, "no such\nfile", "没有.md"]
    ran = subprocess.run(
        [FAMILIAR, "knowledge", "add", *names], env=environment, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 1, ran.stderr
    assert ran.stderr.count("there is no such file or folder.") == len(names)
    assert "Traceback" not in ran.stderr
