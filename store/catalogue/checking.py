"""Is the catalogue whole? Asked by a command, not at each start: it reads the whole file."""

from __future__ import annotations

from sqlalchemy import Connection

_QUESTIONS = {
    "{} chunks belong to no document": (
        "SELECT count(*) FROM chunk WHERE document_id NOT IN (SELECT id FROM document)"
    ),
    "{} documents have another number of chunks than they should": (
        "SELECT count(*) FROM document WHERE chunks <> (SELECT count(*) FROM chunk WHERE document_id = document.id)"
    ),
    "{} chunks have no vector": "SELECT count(*) FROM chunk WHERE hash NOT IN (SELECT hash FROM vector)",
    "{} chunks cannot be found by their words": (
        "SELECT count(*) FROM chunk WHERE id NOT IN (SELECT chunk_id FROM length)"
    ),
    "the words of {} chunks that are gone can still be found": (
        "SELECT count(*) FROM length WHERE chunk_id NOT IN (SELECT id FROM chunk)"
    ),
    "{} owners have another number of chunks than is written": (
        "SELECT count(*) FROM owner WHERE chunks <> (SELECT count(*) FROM chunk JOIN document "
        "ON document.id = document_id WHERE owner_id = owner.id)"
    ),
    "{} words are not in the chunks that they should be in": (
        "SELECT count(*) FROM term LEFT JOIN temp.lexical_words AS there ON there.term = owner_id || ':' || term.term "
        "WHERE there.doc IS NOT term.chunks"
    ),
    "{} words are found that no chunk has": (
        "SELECT max(0, (SELECT count(*) FROM temp.lexical_words "
        "WHERE instr(substr(term, 1, instr(term, ':')), '.') = 0) - (SELECT count(*) FROM term))"
    ),
}


def damage(connection: Connection) -> list[str]:
    """What is wrong, a sentence each; empty when nothing is."""
    found = [row for row in connection.exec_driver_sql("PRAGMA quick_check(5)").scalars() if row != "ok"]
    if found:
        return found  # what follows would fail on it
    connection.exec_driver_sql("CREATE VIRTUAL TABLE temp.lexical_words USING fts5vocab (main, lexical, row)")
    for sentence, question in _QUESTIONS.items():
        count = connection.exec_driver_sql(question).scalar_one()
        if count:
            found.append(sentence.format(count))
    connection.exec_driver_sql("DROP TABLE temp.lexical_words")
    connection.exec_driver_sql("INSERT INTO lexical (lexical) VALUES ('integrity-check')")
    return found
