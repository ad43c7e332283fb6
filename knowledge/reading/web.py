"""A page from the network, for operators who name its address.

Whoever may name an address must not reach through this machine what only this machine can reach: the router, the
cloud's metadata, the database next door. So the name is resolved here, every address that it has must be a public one,
and the connection goes to the very address that was checked; asking for the name a second time could get another
answer (DNS rebinding). A redirect is a new address and is checked like the first. Proxies named in the environment are
not used: they would resolve the name again.

One clock runs for all of it: the name, the connection, the headers, the page and its redirects.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import httpcore
import httpx

from knowledge.errors import PageRefused
from knowledge.reading.formats import SUPPORTED, TEXTUAL
from knowledge.reading.limits import MEGABYTE
from settings import Knowledge

REDIRECTS = 5
MOST_BYTES = 20 * MEGABYTE
LONGEST_URL = 4000
PORTS = range(1024, 65536)  # besides 80 and 443: what listens below speaks other protocols than HTTP
HOST = re.compile(r"[\w.:-]+")
READ_BYTES = 65536
SUFFIXES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/xml": ".xml",
    "text/xml": ".xml",
    "application/pdf": ".pdf",
    "application/epub+zip": ".epub",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}
UNSPECIFIC = ("", "application/octet-stream", "binary/octet-stream")  # then its name says what it is
AZURE = ipaddress.ip_address("168.63.129.16")  # public by number, and the machine's own host
EMBEDDED_IPV4 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))

Resolve = Callable[[str, int], list[str]]  # a host's name and port to its addresses


@dataclass(frozen=True)
class FetchedPage:
    url: str  # after redirects, without its fragment
    name: str  # like a file's, with the suffix of what came
    mime: str  # as the server said, with its charset
    content: bytes


def fetch(url: str, knowledge: Knowledge) -> FetchedPage:
    """Blocking. Raises PageRefused."""
    return PageFetcher(knowledge).fetch(url)


class PageFetcher:
    """`resolve` and `allow_private` are for tests, whose servers are on this machine."""

    def __init__(self, knowledge: Knowledge, *, resolve: Resolve | None = None, allow_private: bool = False) -> None:
        self._seconds = knowledge.fetch_timeout_s
        self._bytes = min(MOST_BYTES, int(knowledge.max_file_mb * MEGABYTE))
        self._resolve, self._allow_private = resolve or _resolve, allow_private

    def fetch(self, url: str) -> FetchedPage:
        deadline = time.monotonic() + self._seconds
        backend = _CheckedNetwork(self._resolve, self._allow_private, deadline)
        address = _address(url)
        try:
            with httpcore.ConnectionPool(ssl.create_default_context(), network_backend=backend) as pool:
                for _ in range(REDIRECTS + 1):
                    answer = self._get(pool, address)
                    if isinstance(answer, FetchedPage):
                        return answer
                    address = answer
        except (httpcore.TimeoutException, TimeoutError) as error:
            reason = f"it took longer than {self._seconds:g} s (knowledge.fetch_timeout_s)"
            raise PageRefused(f"{url}: {reason}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            raise PageRefused(f"{url}: it cannot be reached ({error or type(error).__name__})") from error
        raise PageRefused(f"{url}: it leads on to other addresses more than {REDIRECTS} times")

    def _get(self, pool: httpcore.ConnectionPool, address: httpx.URL) -> FetchedPage | httpx.URL:
        """The page, or the address that it leads on to."""
        headers: dict[bytes | str, bytes | str] = {
            "Host": address.netloc.decode("ascii"),
            "User-Agent": f"Familiar/{_version()}",
            "Accept": "text/html,application/xhtml+xml,application/pdf,text/*;q=0.9,*/*;q=0.5",
            "Accept-Encoding": "gzip, deflate",
            "Connection": "close",
        }
        request = httpcore.URL(
            scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=address.raw_path
        )
        with pool.stream("GET", request, headers=headers) as response:
            answered = httpx.Headers(response.headers)
            if response.status in (301, 302, 303, 307, 308) and "location" in answered:
                return _address(_joined(address, answered["location"]))
            if not 200 <= response.status < 300:
                raise PageRefused(f"{address}: the server answers {response.status}")
            mime = answered.get("content-type", "")
            name = _name(address, mime, answered.get("content-disposition", ""))
            if answered.get("content-length", "").isdigit() and int(answered["content-length"]) > self._bytes:
                raise self._too_large(address)
            content = self._read(response.iter_stream(), answered.get("content-encoding", ""), address)
        if not content:
            raise PageRefused(f"{address}: it is empty")
        return FetchedPage(str(address), name, mime, content)

    def _read(self, stream: Iterable[bytes], encoding: str, address: httpx.URL) -> bytes:
        body = bytearray()
        try:
            for data in _decompressed(stream, encoding.strip().lower(), address):
                body += data
                if len(body) > self._bytes:
                    raise self._too_large(address)
        except zlib.error as error:
            raise PageRefused(f"{address}: what came is cut or damaged") from error
        return bytes(body)

    def _too_large(self, address: httpx.URL) -> PageRefused:
        return PageRefused(f"{address}: it has more than {self._bytes / MEGABYTE:g} MB")


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url.strip()).copy_with(fragment=None)
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise PageRefused(f"{url[:200]}: it is not an address of a page") from error
    if len(url) > LONGEST_URL:
        raise PageRefused(f"{url[:200]}…: the address is too long")
    if address.scheme not in ("http", "https") or not address.host:
        raise PageRefused(f"{url}: only http:// and https:// addresses are fetched")
    if address.userinfo:
        raise PageRefused(f"{address.host}: an address with a password in it is not fetched")
    if not HOST.fullmatch(address.raw_host.decode("ascii", "replace")):
        raise PageRefused(f"{url}: its server has a name that is none")
    if address.port not in (None, 80, 443, *PORTS):
        raise PageRefused(f"{url}: port {address.port} is not one of web pages")
    return address


def _joined(address: httpx.URL, location: str) -> str:
    try:
        return str(address.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise PageRefused(f"{address}: it leads on to what is no address") from error


def _name(address: httpx.URL, mime: str, disposition: str) -> str:
    """With the suffix of what came: main.py shown as a web page is one. Raises PageRefused for what cannot be read."""
    kind = mime.split(";")[0].strip().lower()
    header = Message()
    header["content-disposition"] = disposition
    path = header.get_filename() or unquote(address.path)
    name = re.sub(r"[\x00-\x1f\x7f]", "", PurePosixPath(path.replace("\\", "/")).name)[:150]
    name = name or address.host
    suffix = PurePosixPath(name).suffix.lower()
    if kind in UNSPECIFIC:
        if suffix not in SUPPORTED and kind:
            raise PageRefused(f"{address}: the server does not say what it is")
        return name
    if kind.startswith("text/") and kind not in ("text/html",) and suffix in TEXTUAL:
        return name
    wanted = SUFFIXES.get(kind) or (".txt" if kind.startswith("text/") else "")
    if not wanted:
        raise PageRefused(f"{address}: it is {kind}, which cannot be read")
    if suffix == wanted or (wanted == ".html" and suffix in (".htm", ".xhtml")):
        return name
    return name + wanted


def _decompressed(stream: Iterable[bytes], encoding: str, address: httpx.URL) -> Iterator[bytes]:
    """By pieces of bounded size, however much a few bytes become."""
    if encoding in ("", "identity"):
        yield from stream
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise PageRefused(f"{address}: it is compressed in a way that was not asked for ({encoding})")
    unpack = zlib.decompressobj(32 + zlib.MAX_WBITS) if "gzip" in encoding else zlib.decompressobj()
    for packed in stream:
        while packed:
            yield unpack.decompress(packed, READ_BYTES)
            packed = unpack.unconsumed_tail
    yield unpack.flush()
    if not unpack.eof:
        raise zlib.error("cut")


def _version() -> str:
    try:
        return version("familiar-chat")
    except PackageNotFoundError:
        return "0"


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        if ip.sixtofour or ip.teredo or any(ip in network for network in EMBEDDED_IPV4) or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified and ip != AZURE


class _CheckedNetwork(httpcore.NetworkBackend):
    """Connects to addresses that were checked, and to nothing after the deadline."""

    def __init__(self, resolve: Resolve, allow_private: bool, deadline: float) -> None:
        self._resolve, self._allow_private, self._deadline = resolve, allow_private, deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        last: Exception | None = None
        for address in self._addresses(host, port):
            try:
                stream = self._network.connect_tcp(address, port, timeout=_left(self._deadline) / 2)
                return _TimedStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("not a page")

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, _left(self._deadline)))

    def _addresses(self, host: str, port: int) -> list[str]:
        addresses = self._within_time(host.strip("[]"), port)
        if not self._allow_private and not all(map(is_public, addresses)):
            raise PageRefused(f"{host}: it is an address of a private network, and such pages are not fetched")
        return addresses

    def _within_time(self, host: str, port: int) -> list[str]:
        """The resolver of the operating system cannot be told a time, so it is left behind when it takes too long."""
        answers: queue.Queue[list[str] | Exception] = queue.Queue()

        def ask() -> None:
            try:
                answers.put(self._resolve(host, port))
            except Exception as error:
                answers.put(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            answer = answers.get(timeout=_left(self._deadline))
        except queue.Empty:
            raise httpcore.ConnectTimeout("the name was not resolved in time") from None
        if isinstance(answer, Exception):
            raise httpcore.ConnectError(f"its name cannot be resolved: {answer}") from answer
        return answer


class _TimedStream(httpcore.NetworkStream):
    """A stream whose every step ends at the deadline, so that a server that drips cannot hold on to us."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return _TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("out of time")
    return left
