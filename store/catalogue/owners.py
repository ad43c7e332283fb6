"""Whose a document is. Who may be answered from it follows from that, and is part of every search.

shared                    everybody's: the operator's documents
person:17                 of the person with that id (store.tables.Person.id)
group:telegram:-100123    of a group, by the channel's own number
"""

from __future__ import annotations

SHARED = "shared"


def person(person_id: int) -> str:
    return f"person:{person_id}"


def group(channel: str, external_id: str) -> str:
    return f"group:{channel}:{external_id}"
