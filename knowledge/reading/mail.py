"""E-mail (.eml): who wrote to whom, when, and what; attachments are named, not read."""

from __future__ import annotations

import email
from email.message import EmailMessage
from email.policy import default

from knowledge.errors import DocumentDamaged
from knowledge.parsed import Block
from knowledge.reading.content import Content
from knowledge.reading.html import decode_html
from knowledge.reading.markup import blocks_of_html
from knowledge.reading.text import decode, read_text

SHOWN = ("From", "To", "Cc", "Date")


def read_mail(data: bytes, name: str, mime: str) -> Content:
    message = email.message_from_bytes(data, policy=default)
    if not any(header in message for header in ("From", "To", "Subject", "Date", "Message-ID")):
        raise DocumentDamaged(name, "it is not an e-mail: it has no sender, subject or date")
    lines = [f"{header}: {said}" for header in SHOWN if (said := _header(message, header))]
    blocks = [Block("paragraph", "\n".join(lines))] if lines else []
    body = _body(message)
    attachments = _attachments(message)
    if attachments:
        body = [*body, Block("list", "\n".join(f"- {attachment}" for attachment in attachments))]
    notes = [f"attachments were not read: {', '.join(attachments)}"] if attachments else []
    return Content([*blocks, *body] if body else [], title=_header(message, "Subject"), notes=notes)


def _header(message: EmailMessage, header: str) -> str:
    try:
        return " ".join(str(message.get(header, "")).split())
    except (ValueError, IndexError, AttributeError, TypeError):  # headers that its parser stumbles over
        return ""


def _body(message: EmailMessage) -> list[Block]:
    parts = [part for part in message.walk() if not part.is_multipart() and not part.get_filename()]
    plain = [part for part in parts if part.get_content_type() == "text/plain"]
    html = [part for part in parts if part.get_content_type() == "text/html"]
    blocks = [block for part in plain for block in _text_blocks(part)]
    return blocks or [block for part in html for block in blocks_of_html(decode_html(*_payload(part)) or "")]


def _text_blocks(part: EmailMessage) -> list[Block]:
    data, mime = _payload(part)
    if decode(data, mime) is None:
        return []
    return read_text(data, "", mime).blocks


def _payload(part: EmailMessage) -> tuple[bytes, str]:
    payload = part.get_payload(decode=True)
    return (payload if isinstance(payload, bytes) else b""), f"charset={part.get_content_charset() or ''}"


def _attachments(message: EmailMessage) -> list[str]:
    return [" ".join(name.split()) for part in message.walk() if (name := part.get_filename())]
