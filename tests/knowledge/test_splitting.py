"""What a reader notices in the chunks of a document: where they are cut, what stands above them, what stays whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict

import pytest

from knowledge.parsed import Block, ParsedDocument
from knowledge.splitting import Piece, hash_of, header_of, split
from knowledge.splitting.sentences import sentences

WORD_OR_SIGN = re.compile(r"[^\W\d_]{1,6}|\S", re.ASCII)


def count(texts: Sequence[str]) -> list[int]:
    return [len(WORD_OR_SIGN.findall(text)) for text in texts]


def chunks(*blocks: Block, chunk_tokens: int = 60, title: str = "Paper") -> list[Piece]:
    return split(ParsedDocument(title, "any", blocks), count, chunk_tokens=chunk_tokens)


def texts(*blocks: Block, chunk_tokens: int = 60) -> list[str]:
    return [piece.text for piece in chunks(*blocks, chunk_tokens=chunk_tokens)]


def heading(text: str, level: int = 1) -> Block:
    return Block("heading", text, level=level)


def paragraph(text: str, page: int | None = None) -> Block:
    return Block("paragraph", text, page=page)


def words(number: int, word: str = "word") -> str:
    return " ".join([word] * (number - 1)) + f" {word}."


# structure


def test_a_chunk_carries_the_path_of_headings_above_it():
    pieces = chunks(
        heading("Guide"), paragraph(words(40)), heading("Cats", 2), paragraph(words(40)), heading("Food", 3),
        paragraph(words(40)), heading("Dogs", 2), paragraph(words(40)),
    )  # fmt: skip

    assert [piece.heading for piece in pieces] == ["Guide", "Guide › Cats", "Guide › Cats › Food", "Guide › Dogs"]
    assert all(piece.text == words(40) for piece in pieces)


def test_paragraphs_of_a_section_share_a_chunk_but_do_not_go_on_under_the_next_heading():
    assert texts(heading("A"), paragraph(words(15, "one")), paragraph(words(15, "two")), heading("B"),
                 paragraph(words(15, "three"))) == [
        f"{words(15, 'one')}\n\n{words(15, 'two')}", words(15, "three"),
    ]  # fmt: skip


def test_tiny_neighbouring_sections_share_a_chunk_with_their_headings_in_its_text():
    pieces = chunks(
        heading("Hours"), heading("Monday", 2), paragraph("Open."), heading("Sunday", 2), paragraph("Closed."),
        heading("Prices"), paragraph(words(30)),
    )  # fmt: skip

    assert [(piece.heading, piece.text) for piece in pieces] == [
        ("Hours", "Monday\nOpen.\n\nSunday\nClosed."),
        ("Prices", words(30)),
    ]


def test_tiny_sections_of_different_parents_do_not_share_a_chunk():
    pieces = chunks(
        heading("Cats"), heading("Food", 2), paragraph("Fish."), heading("Dogs"), heading("Food", 2), paragraph("Meat.")
    )

    assert [(piece.heading, piece.text) for piece in pieces] == [("Cats › Food", "Fish."), ("Dogs › Food", "Meat.")]


def test_a_heading_with_nothing_under_it_is_not_lost():
    pieces = chunks(paragraph(words(30)), heading("Appendix"))

    assert [piece.text for piece in pieces] == [words(30), "Appendix"]


def test_a_heading_as_long_as_a_page_stands_whole_in_the_text_and_short_above_it():
    pieces = chunks(heading(words(100)), paragraph("Text."))

    assert "".join(piece.text for piece in pieces).count("word") == 100
    assert all(len(piece.heading) < 200 for piece in pieces)


def test_a_table_that_fits_is_kept_whole_even_when_a_cut_in_it_would_save_a_chunk():
    table = "| a | b |\n|---|---|\n" + "\n".join("| 1 | 2 |" for _ in range(5))
    pieces = texts(paragraph(words(20)), Block("table", table), paragraph(words(20)))

    assert table in pieces


def test_a_table_that_does_not_fit_is_cut_between_rows_and_its_header_repeated():
    rows = [f"| row{number} | {number} |" for number in range(100, 140)]
    pieces = texts(Block("table", "\n".join(["| name | size |", "|---|---|", *rows])))

    assert len(pieces) > 3
    assert all(piece.startswith("| name | size |\n|---|---|\n| row") for piece in pieces)
    assert [row for piece in pieces for row in piece.split("\n")[2:]] == rows


def test_a_table_of_a_thousand_columns_is_cut_between_cells():
    row = "| " + " | ".join(f"c{number}" for number in range(1000)) + " |"
    pieces = texts(Block("table", f"{row}\n{row}"))

    cells = [cell for piece in pieces for cell in re.findall(r"c\d+", piece)]
    assert cells == [f"c{number}" for number in range(1000)] * 2


def test_a_list_is_cut_between_its_items():
    items = [f"- item {number} is made of these words" for number in range(20)]
    pieces = texts(Block("list", "\n".join(items)))

    assert len(pieces) > 2
    assert [item for piece in pieces for item in piece.split("\n")] == items


def test_a_sentence_that_announces_a_list_stays_with_it():
    pieces = texts(
        paragraph(words(30)), paragraph("You need:"), Block("list", "\n".join(["- flour and salt and water"] * 4))
    )

    assert pieces == [words(30), "You need:\n\n" + "\n".join(["- flour and salt and water"] * 4)]


def test_the_pages_are_those_of_the_first_and_the_last_block():
    pieces = chunks(paragraph(words(20), 3), paragraph(words(20), 4), paragraph(words(50), 5), paragraph("No page."))

    assert [(piece.page, piece.page_end) for piece in pieces] == [(3, 4), (5, 5)]


# sentences and below


def test_a_long_paragraph_is_cut_between_sentences():
    text = " ".join(f"This is sentence number {number} of many." for number in range(30))
    pieces = texts(paragraph(text))

    assert " ".join(pieces) == text
    assert all(piece.startswith("This") and piece.endswith("many.") for piece in pieces)


def test_chunks_are_filled_evenly_and_leave_no_orphan_at_the_end():
    sizes = [piece.tokens for piece in chunks(paragraph(" ".join(["A bird sang."] * 17)), chunk_tokens=64)]

    assert len(sizes) == 2
    assert max(sizes) - min(sizes) < 10


@pytest.mark.parametrize(
    "inside", ["Dr. Who", "e.g. This", "i.e. that", "Fig. 3", "J. Smith", "3.14 times", "U.S. law"]
)
def test_an_abbreviation_does_not_end_a_sentence(inside):
    text = f"We saw {inside} there. And left."

    assert [sentence for sentence, _ in sentences(text)] == [f"We saw {inside} there. ", "And left."]


def test_the_number_of_an_item_is_not_a_sentence():
    assert [sentence for sentence, _ in sentences("1. Mix it. Then bake it.")] == ["1. Mix it. ", "Then bake it."]


def test_chinese_is_cut_at_its_own_punctuation():
    text = "今天的天气非常好。我们要不要去公园？当然要去！" * 12

    pieces = texts(paragraph(text))
    assert "".join(pieces) == text
    assert len(pieces) > 3
    assert all(piece[-1] in "。？！" for piece in pieces)


@pytest.mark.parametrize("chunk_tokens", range(60, 120, 6))
def test_a_chinese_quotation_is_not_cut_inside(chunk_tokens):
    text = "老师看着大家慢慢地说：「明天早上要考试。请大家准备好。不要迟到。」然后她就离开了教室。" * 6
    pieces = texts(paragraph(text), chunk_tokens=chunk_tokens)

    assert len(pieces) > 2
    assert all(piece.count("「") == piece.count("」") for piece in pieces)


def test_a_quotation_that_is_never_closed_does_not_keep_the_rest_together():
    text = "他说：「" + "今天的天气非常好。" * 100

    assert all(piece.endswith("。") for piece in texts(paragraph(text)))


def test_a_sentence_that_is_too_long_is_cut_at_clauses_and_a_clause_between_words():
    clauses = texts(paragraph(", ".join(["when the night came down on the town"] * 20)))
    assert all(text.rstrip(",").endswith("town") for text in clauses)

    plain = texts(paragraph(" ".join(["word"] * 300)))
    assert {word for text in plain for word in text.split(" ")} == {"word"}


def test_ten_million_letters_without_a_space_are_cut_into_chunks():
    pieces = chunks(paragraph("x" * 10_000_000), chunk_tokens=2000)

    assert sum(len(piece.text) for piece in pieces) == 10_000_000
    assert max(piece.tokens for piece in pieces) <= 2000


def test_a_word_without_end_is_cut_though_the_tokenizer_takes_it_for_one_token():
    def one_for_each_word(texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    pieces = split(ParsedDocument("t", "x", (paragraph("x" * 100_000),)), one_for_each_word, chunk_tokens=100)

    assert len(pieces) >= 100


def test_lines_of_a_poem_keep_their_indentation():
    poem = "\n".join(["The first line stands here", "    and this one further in"] * 12)

    assert "\n".join(texts(paragraph(poem))) == poem


# the limit, with real tokenizers


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level"])
def test_no_chunk_has_more_tokens_than_allowed_by_a_real_tokenizer(kind):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    corpus = ["The quick brown fox jumps over the lazy dog.", "今天的天气非常好。", "def f(x): return x", "👍🏽 é"] * 20
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    tokenizer.train_from_iterator(corpus, trainer)

    def real(texts: Sequence[str]) -> list[int]:
        return [len(each.ids) for each in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    document = ParsedDocument(
        "A title 标题 👍🏽",
        "any",
        (
            heading("The quick brown fox"),
            paragraph("The quick brown fox jumps over the lazy dog. " * 40),
            paragraph("今天的天气非常好。" * 40),
            heading("fox", 2),
            Block("code", "def f(x):\n    return x\n\n\n" * 30, language="python"),
            Block("table", "| a | b |\n|---|---|\n" + "| fox | dog 👍🏽👍🏽👍🏽 |\n" * 40),
            paragraph("Ξ" * 3000),
        ),
    )
    for chunk_tokens in (32, 100, 256):
        pieces = split(document, real, chunk_tokens=chunk_tokens)
        embedded = [header_of(document.title, piece.heading, chunk_tokens) + piece.text for piece in pieces]
        assert real(embedded) == [piece.tokens for piece in pieces]
        assert max(real(embedded)) <= chunk_tokens


def test_tokens_are_counted_in_few_calls():
    calls = []

    def counting(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return count(texts)

    blocks = [block for number in range(200) for block in (heading(f"H{number}"), paragraph(words(100)))]
    pieces = split(ParsedDocument("t", "any", tuple(blocks)), counting, chunk_tokens=60)

    assert len(pieces) >= 400
    assert len(calls) < 12


def test_a_chunk_too_small_for_header_and_text_is_refused():
    with pytest.raises(ValueError, match="at least 16"):
        chunks(paragraph("x"), chunk_tokens=8)


def test_blocks_of_nothing_but_space_make_no_chunk():
    assert chunks(paragraph(" \n\t "), heading("  "), Block("table", "\n"), Block("code", "\n\n")) == []


def test_a_piece_is_plain_data():
    [piece] = chunks(paragraph("One.", 2))

    assert asdict(piece) == {
        "text": "One.",
        "heading": "",
        "page": 2,
        "page_end": 2,
        "tokens": count(["Paper\nOne."])[0],
    }


# the header


def test_the_header_names_title_and_headings():
    assert header_of("Zoo guide", "Cats › Food") == "Zoo guide › Cats › Food\n"
    assert header_of("Zoo guide", "") == "Zoo guide\n"
    assert header_of("", "Cats") == "Cats\n"
    assert header_of("", "") == ""


def test_a_title_that_is_also_the_first_heading_is_said_once():
    assert header_of("Zoo guide", "ZOO GUIDE › Cats") == "Zoo guide › Cats\n"


def test_a_long_header_keeps_the_title_s_beginning_and_the_innermost_heading():
    header = header_of(words(200, "title"), " › ".join([words(30, "outer"), words(30, "middle"), "Innermost"]))

    assert header.startswith("title title")
    assert header.endswith("› Innermost\n")
    assert "…" in header
    assert count([header])[0] < 256 / 4


@pytest.mark.parametrize("title", ["x" * 5000, "标题" * 900, "👍🏽" * 700, "word " * 900, "0123456789abcdef" * 90])
def test_a_title_longer_than_the_chunk_leaves_room_for_the_text(title):
    pieces = chunks(paragraph(words(300)), title=title, chunk_tokens=64)

    assert sum(piece.text.count("word") for piece in pieces) == 300
    assert max(piece.tokens for piece in pieces) <= 64
    assert len(pieces) < 20


def test_the_hash_is_of_what_is_embedded():
    assert hash_of("Zoo › 猫\ntext") == hashlib.sha256("Zoo › 猫\ntext".encode()).hexdigest()
