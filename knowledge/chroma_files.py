"""What is done to the files of an in-process Chroma from a process of its own. Run as a script: ACTION FOLDER.

probe   Can everything be read? Chroma loads its HNSW files without looking at them, and a damaged one ends the process
        by a segmentation fault, so the first look is taken by a process that may die of it.
tidy    Forget what was deleted: Chroma leaves the folders of deleted collections, and SQLite leaves deleted rows in
        its free pages. Not in the process that has Chroma open: closing a second connection to the same file, made by
        Python's own SQLite library, would drop the locks that Chroma's holds (POSIX locks belong to the process).
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

DATABASE = "chroma.sqlite3"
_SEGMENT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_QUERIES = 20
_TIMEOUT_S = 600


def run(action: str, folder: Path) -> str:
    """What is wrong, or "" when it went well."""
    command = [sys.executable, "-I", str(Path(__file__).resolve()), action, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"{action} took longer than {_TIMEOUT_S} s"
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"reading it ended the process by signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:300]


def probe(folder: Path) -> None:
    if not (folder / DATABASE).exists():
        raise FileNotFoundError(f"{DATABASE} is missing")
    with closing(sqlite3.connect(folder / DATABASE, timeout=30)) as database:
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(str(verdict))
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False, is_persistent=True, persist_directory=str(folder))
    client = chromadb.PersistentClient(str(folder), settings)
    for collection in client.list_collections():
        _query(client.get_collection(collection.name, embedding_function=None))


def _query(collection) -> None:  # type: ignore[no-untyped-def]  # Chroma's own
    count = collection.count()
    for offset in sorted({count * i // _QUERIES for i in range(_QUERIES)} if count else ()):
        found = collection.get(limit=1, offset=offset, include=["embeddings", "metadatas"])
        owner = (found["metadatas"][0] or {}).get("owner", "")
        collection.query(query_embeddings=found["embeddings"], n_results=10)
        collection.query(query_embeddings=found["embeddings"], n_results=10, where={"owner": {"$in": [owner]}})


def tidy(folder: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE, timeout=30, isolation_level=None)) as database:
        live = {segment for (segment,) in database.execute("SELECT id FROM segments")}
        for place in folder.iterdir():
            if _SEGMENT.fullmatch(place.name) and place.name not in live:
                shutil.rmtree(place)
        database.execute("VACUUM")


if __name__ == "__main__":
    {"probe": probe, "tidy": tidy}[sys.argv[1]](Path(sys.argv[2]))
