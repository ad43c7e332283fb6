"""EPUB: the HTML files of a book's spine, in order."""

from __future__ import annotations

import posixpath
import zipfile
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from knowledge.errors import DocumentDamaged, DocumentEncrypted
from knowledge.parsed import Block
from knowledge.reading.archives import read_member
from knowledge.reading.content import Content
from knowledge.reading.html import decode_html
from knowledge.reading.markup import blocks_of_html

CONTAINER = "META-INF/container.xml"
ENCRYPTION = "META-INF/encryption.xml"
FONTS_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")  # scrambled fonts are no lock
PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def read_epub(path: Path, name: str) -> Content:
    with zipfile.ZipFile(path) as archive:
        files = set(archive.namelist())
        if ENCRYPTION in files and _is_locked(_xml(archive, ENCRYPTION, name)):
            raise DocumentEncrypted(name, "it is locked (DRM); only its shop's programs can read it")
        root = _xml(archive, CONTAINER, name).find(".//{*}rootfile")
        if root is None:
            raise DocumentDamaged(name, "it names no book (container.xml has no rootfile)")
        package_path = unquote(root.get("full-path", ""))
        package = _xml(archive, package_path, name)
        blocks: list[Block] = []
        notes: list[str] = []
        for chapter in _spine(package, posixpath.dirname(package_path)):
            if chapter not in files:
                notes.append(f"{chapter} is missing in it")
                continue
            html = decode_html(read_member(archive, chapter, name))
            if html is None:
                notes.append(f"{chapter} in it is damaged")
                continue
            blocks += blocks_of_html(html)
    title = package.findtext(".//{*}metadata/{http://purl.org/dc/elements/1.1/}title") or ""
    return Content(blocks, title=title, notes=notes)


def _xml(archive: zipfile.ZipFile, member: str, name: str) -> Element:
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(read_member(archive, member, name), forbid_dtd=False)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise DocumentDamaged(name, f"{member} in it is damaged") from error
    return root


def _is_locked(encryption: Element) -> bool:
    methods = encryption.iterfind(".//{http://www.w3.org/2001/04/xmlenc#}EncryptionMethod")
    return any(method.get("Algorithm") not in FONTS_ONLY for method in methods)


def _spine(package: Element, folder: str) -> list[str]:
    items = {item.get("id"): item for item in package.iterfind(".//{*}manifest/{*}item")}
    chapters = []
    for reference in package.iterfind(".//{*}spine/{*}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or item.get("media-type") not in PAGES or "nav" in (item.get("properties") or "").split():
            continue
        chapters.append(posixpath.normpath(posixpath.join(folder, unquote(item.get("href", "")))))
    return list(dict.fromkeys(chapters))
