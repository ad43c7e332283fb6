"""A process with a vector index of its own, told what to do a line at a time; each answer is a line of JSON.

Run as `python -m tests.knowledge.vector_process FOLDER`; `IndexProcess` starts and asks it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED
from tests.knowledge.vector_index import add, index_on, texts_found


class IndexProcess:
    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.knowledge.vector_process", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words: Any) -> Any:
        self.tell(*words)
        return self.answer()

    def tell(self, *words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def kill(self) -> list[Any]:
        """By SIGKILL. What it had still said."""
        self.process.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        return [json.loads(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]

    def __enter__(self) -> IndexProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.kill()


def _serve(folder: Path) -> None:
    with Catalogue(folder) as catalogue, index_on(folder, patience_s=1) as index:
        for line in sys.stdin:
            command, *words = json.loads(line)
            answer: Any = True
            try:
                if command == "add":
                    answer = add(catalogue, *words).id
                elif command == "remove":
                    answer = catalogue.remove(words)
                elif command == "apply":
                    answer = index.apply(wait=words[0])
                elif command == "follow":
                    index.follow()
                elif command == "find":
                    answer = texts_found(catalogue, index, *words)
                elif command == "work":  # until killed: tells what is acknowledged
                    _work(catalogue, index.apply, *words)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            print(json.dumps(answer), flush=True)


def _work(catalogue: Catalogue, apply: Any, run: int) -> None:
    for number in range(10_000):
        source = f"{run}-{number}"
        document = add(catalogue, SHARED if number % 3 else "person:1", source, [f"{source} {n}" for n in range(40)])
        print(json.dumps(["added", document.id]), flush=True)
        if number % 4 == 3:
            print(json.dumps(["to be removed", document.id]), flush=True)
            catalogue.remove([document.id])
            print(json.dumps(["removed", document.id]), flush=True)
        apply(wait=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
