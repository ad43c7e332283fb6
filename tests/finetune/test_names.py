"""A head that finds names in sentences, learnt from made sentences and asked for names it has not seen."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from bench.names import looked_up, marked
from finetune import names
from finetune.errors import DataRefused, NotEnoughData
from finetune.names import Sentence, States, Tagger
from finetune.redact import Redactor

GIVEN = {
    "learnt": [
        "Alma",
        "Boris",
        "Clara",
        "Dmitri",
        "Elena",
        "Farid",
        "Greta",
        "Hugo",
        "Irina",
        "Jonas",
        "Karim",
        "Lucia",
    ],
    "asked": ["Anton", "Bianca", "Carlos", "Dora", "Emil", "Fatima", "Gustav", "Helena", "Ivan", "Julia"],
}
FAMILY = {
    "learnt": ["Muster", "Beispiel", "Sample", "Primer", "Vorbild", "Esempio", "Ejemplo", "Exempel"],
    "asked": ["Modell", "Probe", "Mustermann", "Testa"],
}
PLACES = ["Berlin", "Paris", "Lisbon", "Vienna", "Oslo", "Prague", "Madrid", "Rome"]
THINGS = ["Python", "Linux", "Monday", "Christmas", "Toyota", "Windows", "Google", "March"]
FRAMES = (
    "Yesterday {n} went to {p} by train .",
    "I met {n} in {p} last week .",
    "{n} and {m} work with {t} every day .",
    "My neighbour {n} likes {t} .",
    "Is {p} bigger than {q} ?",
    "We learn {t} on Monday in {p} .",
    "Please ask {n} whether {m} is coming .",
    "The train to {p} was late , said {n} .",
    "{t} is better than {u} , isn't it ?",
)
CHINESE_FRAMES = ("我 昨 天 遇 到 了 {n} 。", "{n} 在 北 京 工 作 。", "我 们 明 天 去 上 海 。", "请 问 {n} 在 吗 ？")
CHINESE = {
    "learnt": ["王小样", "李示例", "张样本", "赵例子", "孙小范", "周样例"],
    "asked": ["吴小样", "郑范例", "陈样板"],
}


def sentences(side: str, count: int, seed: int) -> list[Sentence]:
    dice = random.Random(seed)
    return [_sentence(side, dice, chinese=number % 4 == 3) for number in range(count)]


def _sentence(side: str, dice: random.Random, *, chinese: bool) -> Sentence:
    words: list[str] = []
    tags: list[str] = []
    for part in dice.choice(CHINESE_FRAMES if chinese else FRAMES).split():
        if part in ("{n}", "{m}"):
            name = list(dice.choice(CHINESE[side])) if chinese else [dice.choice(GIVEN[side])]
            if not chinese and dice.random() < 0.5:
                name.append(dice.choice(FAMILY[side]))
            words += name
            tags += ["B-PER", *["I-PER"] * (len(name) - 1)]
            continue
        words.append(dice.choice(PLACES if part in ("{p}", "{q}") else THINGS) if part.startswith("{") else part)
        tags.append("O")
    return Sentence(tuple(words), tuple(tags))


@pytest.fixture(scope="module")
def states(models: Path) -> States:
    return States(models / "multilingual-e5-small")


@pytest.fixture(scope="module")
def tagger(states: States) -> Tagger:
    return names.learn(sentences("learnt", 200, 0), states)


def test_names_that_were_never_seen_are_found_in_sentences_that_were_never_seen(tagger: Tagger, states: States) -> None:
    scores = names.evaluated(tagger, sentences("asked", 80, 1), states)
    assert scores.f1 >= 0.85
    assert scores.support >= 60
    assert "PER" in scores.printed
    assert "micro avg" in scores.printed


def test_of_a_name_that_is_found_in_part_nothing_counts() -> None:
    """By words two of three would be right: the seed article's mistake."""
    scores = names.scored([["B-PER", "I-PER", "O"]], [["B-PER", "O", "O"]])
    assert (scores.precision, scores.recall, scores.f1, scores.support) == (0, 0, 0, 1)
    assert names.scored([["O", "B-PER", "I-PER"]], [["O", "B-PER", "I-PER"]]).f1 == 1
    assert names.scored([["O", "O"]], [["O", "O"]]).support == 0


def test_a_name_that_goes_on_has_begun(states: States) -> None:
    inside_first = Tagger(np.zeros((2, 3), np.float32), np.array([0, 1, 9], np.float32), np.zeros(2), np.ones(2))
    assert inside_first.tag(np.zeros((3, 2), np.float32)) == ("B-PER", "I-PER", "I-PER")
    assert inside_first.tag(np.zeros((0, 2), np.float32)) == ()


def test_a_tagger_that_was_saved_finds_the_same(tagger: Tagger, states: States, tmp_path: Path) -> None:
    tagger.save(tmp_path / "names.npz")
    again = names.load(tmp_path / "names.npz")
    for sentence in sentences("asked", 10, 2):
        assert again.tag(states(sentence.words)) == tagger.tag(states(sentence.words))


@pytest.mark.parametrize("content", [b"", b"not numbers", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_tagger_is_refused_by_its_name(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "names.npz"
    file.write_bytes(content)
    with pytest.raises(DataRefused, match=r"names\.npz"):
        names.load(file)


def test_a_tagger_cut_in_the_middle_is_refused(tagger: Tagger, tmp_path: Path) -> None:
    file = tmp_path / "names.npz"
    tagger.save(file)
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(DataRefused):
        names.load(file)


def test_too_few_names_are_not_learnt_from(states: States) -> None:
    with pytest.raises(NotEnoughData, match="1 marked names in 1 sentences; it takes 20"):
        names.learn([Sentence(("Ann",), ("B-PER",))], states)


def test_columns_are_read_whichever_marks_they_have(tmp_path: Path) -> None:
    file = tmp_path / "some.conll"
    file.write_text(
        "-DOCSTART- O\n\nAnn I-PER\nB. I-PER\nmet O\nBob S-person\nin O\nRome I-LOC\n\n\n王 x B-PER\n明 y E-PER\n",
        encoding="utf-8",
    )
    assert names.read(file) == [
        Sentence(("Ann", "B.", "met", "Bob", "in", "Rome"), ("B-PER", "I-PER", "O", "B-PER", "O", "O")),
        Sentence(("王", "明"), ("B-PER", "I-PER")),
    ]


def test_a_line_without_a_tag_is_refused_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "some.conll"
    file.write_text("Ann B-PER\nBob\n", encoding="utf-8")
    with pytest.raises(DataRefused, match=r"line 2: 'Bob'"):
        names.read(file)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "some.conll"
    file.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(DataRefused, match="UTF-8"):
        names.read(file)
    with pytest.raises(DataRefused):
        names.read(tmp_path / "missing")


def test_words_without_tokens_and_sentences_without_end_are_no_trouble(tagger: Tagger, states: States) -> None:
    odd = ["", "\u200b", "\ud800", "🙂", *["word"] * 2000]
    assert states(odd).shape == (2004, 384)
    assert len(tagger.tag(states(odd))) == 2004
    assert states([]).shape[0] == 0


def test_a_third_persons_name_leaves_a_text_when_the_redactor_has_the_tagger(tagger: Tagger, states: States) -> None:
    redactor = Redactor(also=[names.finder(tagger, states)])
    texts = ["Yesterday Helena Probe went to Berlin by train.", "Please ask Helena Probe whether Emil is coming."]
    redacted, counts = redactor.conversation(texts)
    assert redacted[0] == "Yesterday <NAME_1> went to Berlin by train."
    assert redacted[1].startswith("Please ask <NAME_1> whether <NAME_2>")
    assert counts["NAME"] == 3


def test_a_list_of_names_is_looked_up_by_whole_names_and_the_longer_one_wins() -> None:
    sentence = Sentence(("Ann", "met", "Ann", "Lee", "and", "Bo"), ("B-PER", "O", "B-PER", "I-PER", "O", "B-PER"))
    listed = set(marked(sentence))
    assert listed == {("Ann",), ("Ann", "Lee"), ("Bo",)}
    assert looked_up(sentence.words, listed) == list(sentence.tags)
    assert looked_up(("Lee", "and", "Ann"), listed) == ["O", "O", "B-PER"]
    assert looked_up((), listed) == []
    assert looked_up(("Ann",), set()) == ["O"]
