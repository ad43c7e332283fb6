"""Text from elsewhere (a file's name, a passage) made short enough to be shown."""

from __future__ import annotations

from wcwidth import iter_graphemes

from bot.telegram.cutting import units_in

ELLIPSIS = "…"


def one_line(text: str, most: int) -> str:
    """It as one line of at most `most` UTF-16 units, without signs that cannot be seen."""
    visible = "".join(sign if sign.isprintable() or sign == "\u200d" else " " for sign in text)  # it joins emoji
    return shortened(" ".join(visible.split()), most)


def shortened(text: str, most: int) -> str:
    """It, or its beginning, in at most `most` UTF-16 units; nothing that a reader sees as one character is torn."""
    if units_in(text) <= most:
        return text
    kept, room = [], most - units_in(ELLIPSIS)
    for grapheme in iter_graphemes(text[:most]):
        room -= units_in(grapheme)
        if room < 0:
            break
        kept.append(grapheme)
    return "".join(kept).rstrip() + ELLIPSIS
