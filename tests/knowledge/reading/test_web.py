"""Pages from a real server: what is fetched, and above all what is not."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from knowledge.errors import PageRefused
from knowledge.reading import Reader
from knowledge.reading.web import FetchedPage, PageFetcher, _decompressed, is_public
from settings import Knowledge
from tests.knowledge.reading.making import save

PAGE = b"<title>Bread</title><p>Bread needs an oven.</p>"
Get = Callable[..., Awaitable[FetchedPage]]


class Server:
    """Answers by path; names that end in .test lead to it."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answers: dict[str, web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        self.port = 0
        self.resolved: list[str] = []

    def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        if host.endswith(".test"):
            return ["127.0.0.1"]
        raise OSError("no such name")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        said = self.answers.get(request.path, web.Response(status=404))
        return await said(request) if callable(said) else said

    def url(self, path: str, host: str = "bakery.test") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.port = runner.addresses[0][1]
    yield served
    await runner.cleanup()


async def get(server: Server, url: str, *, allow_private: bool = True, **settings: float) -> FetchedPage:
    knowledge = Knowledge(**settings)  # type: ignore[arg-type]
    fetcher = PageFetcher(knowledge, resolve=server.resolve, allow_private=allow_private)
    return await asyncio.to_thread(fetcher.fetch, url)


def page(body: bytes = PAGE, kind: str = "text/html; charset=utf-8", **headers: str) -> web.Response:
    return web.Response(
        body=body, headers={"Content-Type": kind} | {k.replace("_", "-"): v for k, v in headers.items()}
    )


async def test_a_page_is_fetched_and_can_be_read(server: Server, reader: Reader, tmp_path: Path) -> None:
    server.answers["/bread"] = page(Set_Cookie="a=b")
    fetched = await get(server, server.url("/bread?x=%20y#top"))
    assert fetched == FetchedPage(server.url("/bread?x=%20y"), "bread.html", "text/html; charset=utf-8", PAGE)
    request = server.requests[0]
    assert request.headers["User-Agent"].startswith("Familiar/")
    assert request.headers["Host"] == f"bakery.test:{server.port}"
    assert "Cookie" not in request.headers
    document = reader.read(save(tmp_path, "a", fetched.content), fetched.name, fetched.mime)
    assert (document.title, document.kind) == ("Bread", "html")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254",
        "100.100.100.200", "168.63.129.16", "224.0.0.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "::1",
        "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2001:0:7f00:1::", "fec0::1", "2001:db8::1",
    ],
)  # fmt: skip
async def test_private_addresses_are_refused_however_they_are_named(server: Server, address: str) -> None:
    assert not is_public(address)
    server.resolve = lambda host, port: [address]  # type: ignore[method-assign]
    with pytest.raises(PageRefused, match=r"innocent\.example: .*private network"):
        await get(server, "http://innocent.example/", allow_private=False)


def test_public_addresses_are_allowed() -> None:
    assert all(map(is_public, ("93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1")))


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost."]
)
async def test_this_machine_is_not_reached_by_any_spelling(server: Server, host: str) -> None:
    server.answers["/"] = page()
    with pytest.raises(PageRefused):
        await asyncio.to_thread(PageFetcher(Knowledge()).fetch, server.url("/", host))
    assert not server.requests


async def test_one_private_address_among_public_ones_is_enough_to_refuse(server: Server) -> None:
    server.resolve = lambda host, port: ["93.184.216.34", "10.0.0.1"]  # type: ignore[method-assign]
    with pytest.raises(PageRefused, match="private network"):
        await get(server, "http://innocent.example/", allow_private=False)


async def test_the_connection_goes_to_the_address_that_was_checked_and_asks_no_second_time(server: Server) -> None:
    server.answers["/"] = page()
    await get(server, server.url("/", "no-such-name-anywhere.test"))
    assert server.resolved == ["no-such-name-anywhere.test"]


async def test_a_redirect_is_followed_and_checked_again(server: Server) -> None:
    server.answers["/old"] = web.Response(status=301, headers={"Location": server.url("/new", "other.test")})
    server.answers["/new"] = web.Response(status=302, headers={"Location": "/newest?a=1"})
    server.answers["/newest"] = page()
    fetched = await get(server, server.url("/old"))
    assert fetched.url == server.url("/newest?a=1", "other.test")
    assert server.resolved == ["bakery.test", "other.test", "other.test"]


async def test_a_redirect_into_the_private_network_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/"] = web.Response(status=302, headers={"Location": f"http://router.internal:{server.port}/secret"})
    server.answers["/secret"] = page()
    monkeypatch.setattr("knowledge.reading.web.is_public", lambda address: address == "127.0.0.1")
    server.resolve = lambda host, port: ["127.0.0.1" if host == "bakery.test" else "192.168.1.1"]  # type: ignore[method-assign]
    with pytest.raises(PageRefused, match=r"router\.internal: .*private network"):
        await get(server, server.url("/"), allow_private=False)
    assert [request.path for request in server.requests] == ["/"]


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://bakery.test/", "http://a:b@bakery.test/", "http://["]
)
async def test_a_redirect_to_something_else_is_refused(server: Server, location: str) -> None:
    server.answers["/"] = web.Response(status=302, headers={"Location": location})
    with pytest.raises(PageRefused):
        await get(server, server.url("/"))


async def test_redirects_in_a_circle_end(server: Server) -> None:
    async def circle(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/"})

    server.answers["/"] = circle
    with pytest.raises(PageRefused, match="more than 5 times"):
        await get(server, server.url("/"))
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://example.org/x", "gopher://example.org/", "javascript:alert(1)", "example.org",
        "", "http://",         "http://a:b@example.org/", "http://example.org:22/", "http://example.org:25/", "https://example.org:99999/",
        "http://exa mple.org/", "http://example.org/" + "x" * 5000, "http://\udcff.org/", "http:///x",
    ],
)  # fmt: skip
async def test_what_is_no_address_of_a_page_is_refused_before_any_name_is_asked(server: Server, url: str) -> None:
    with pytest.raises(PageRefused):
        await get(server, url)
    assert not server.resolved


async def test_a_page_over_the_limit_is_not_read_to_its_end(server: Server) -> None:
    server.answers["/said"] = page(bytes(2_000_000))

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/html"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    server.answers["/endless"] = endless
    for path in ("/said", "/endless"):
        with pytest.raises(PageRefused, match="more than 1 MB"):
            await get(server, server.url(path), max_file_mb=1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_page_is_unpacked_and_a_bomb_is_not(server: Server, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    server.answers["/good"] = page(pack(PAGE), Content_Encoding=encoding)
    server.answers["/bomb"] = page(pack(bytes(100_000_000)), Content_Encoding=encoding)
    server.answers["/cut"] = page(pack(PAGE)[:-6], Content_Encoding=encoding)
    server.answers["/false"] = page(PAGE, Content_Encoding=encoding)
    assert (await get(server, server.url("/good"))).content == PAGE
    with pytest.raises(PageRefused, match="more than 20 MB"):
        await get(server, server.url("/bomb"))
    for path in ("/cut", "/false"):
        with pytest.raises(PageRefused, match="cut or damaged"):
            await get(server, server.url(path))


async def test_a_way_of_compressing_that_was_not_asked_for_is_refused(server: Server) -> None:
    server.answers["/"] = page(Content_Encoding="br")
    with pytest.raises(PageRefused, match="br"):
        await get(server, server.url("/"))


@pytest.mark.parametrize("where", ["headers", "body"])
async def test_a_server_that_drips_is_left_when_the_time_is_up(where: str) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + (b"\r\n" if where == "body" else b"X-A: "))
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        except OSError:
            writer.close()

    dripping = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = dripping.sockets[0].getsockname()[1]
    with pytest.raises(PageRefused, match=r"longer than 0\.7 s"):
        await get(Server(), f"http://slow.test:{port}/", fetch_timeout_s=0.7)
    dripping.close()


async def test_a_name_that_is_not_resolved_in_time_is_given_up(server: Server) -> None:
    import threading

    release = threading.Event()
    server.resolve = lambda host, port: release.wait(60) and []  # type: ignore[assignment, return-value, method-assign]
    with pytest.raises(PageRefused, match=r"longer than 0\.5 s"):
        await get(server, "http://slow.test/", fetch_timeout_s=0.5)
    release.set()


async def test_what_cannot_be_reached_is_said_in_one_line(server: Server) -> None:
    with pytest.raises(PageRefused, match=r"nowhere\.example.*its name cannot be resolved"):
        await get(server, "http://nowhere.example/")
    with pytest.raises(PageRefused, match=r"gone\.test.*cannot be reached"):
        await get(server, "http://gone.test:1025/")
    with pytest.raises(PageRefused, match="the server answers 404"):
        await get(server, server.url("/missing"))
    server.answers["/nothing"] = page(b"")
    with pytest.raises(PageRefused, match="it is empty"):
        await get(server, server.url("/nothing"))
    with pytest.raises(PageRefused, match="cannot be reached"):  # it does not speak TLS
        await get(server, server.url("/nothing").replace("http", "https"))


@pytest.mark.parametrize(
    ("path", "kind", "disposition", "name"),
    [
        ("/src/main.py", "text/html", "", "main.py.html"),
        ("/src/main.py", "text/plain", "", "main.py"),
        ("/notes.md", "text/plain; charset=utf-8", "", "notes.md"),
        ("/pdf/2401.12345", "application/pdf", "", "2401.12345.pdf"),
        ("/", "text/html", "", "bakery.test.html"),
        ("/get", "application/octet-stream", 'attachment; filename="../../Bread book.pdf"', "Bread book.pdf"),
        ("/%E9%9D%A2%E5%8C%85.htm", "text/html", "", "面包.htm"),
        ("/a/b/", "text/html", "", "b.html"),
    ],
)
async def test_a_page_is_named_by_its_address_and_by_what_it_is(
    server: Server, path: str, kind: str, disposition: str, name: str
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return page(PAGE, kind, Content_Disposition=disposition)

    from urllib.parse import unquote

    server.answers[unquote(path)] = answer
    assert (await get(server, server.url(path))).name == name


@pytest.mark.parametrize("kind", ["image/png", "video/mp4", "application/zip", "application/octet-stream"])
async def test_a_type_that_is_not_read_is_refused_before_it_is_fetched(server: Server, kind: str) -> None:
    server.answers["/x"] = page(b"x" * 1000, kind)
    with pytest.raises(PageRefused, match=r"cannot be read|does not say what it is"):
        await get(server, server.url("/x"))


def test_a_few_bytes_that_become_many_are_unpacked_by_small_pieces() -> None:
    address = httpx.URL("http://bakery.test/")
    pieces = [len(piece) for piece in _decompressed([gzip.compress(bytes(10_000_000))], "gzip", address)]
    assert sum(pieces) == 10_000_000
    assert max(pieces) <= 65536
