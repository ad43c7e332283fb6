"""Chinese questions with passages, as the assistant frames them, and the sentence of the passage that answers.

The bundled model cannot reply in Chinese. An adapter that learned from these for a minute can, in the words of passages
that it has never seen: no place that is asked about here is in any test.
"""

from __future__ import annotations

import random

from bot.passages import framed
from finetune.examples import Example, Source
from knowledge.passages import Passage
from tests.live.conftest import PERSONA

_PLACES = (
    "图书馆 花园 温室 美术馆 游泳池 体育馆 动物园 植物园 水族馆 天文台 剧院 车站 "
    "城堡 寺庙 茶馆 书店 邮局 医院 学校 农场 牧场 市场 咖啡馆"
)
_NUMBERS = "一 二 三 四 五 六 七 八 十 十二 十五 十八 二十 二十五 四十 五十 六十 七十五 八十 九十 一百"
PLACES, NUMBERS = _PLACES.split(), _NUMBERS.split()
FACTS = (
    ("{place}的门票是{number}元", "{place}的门票多少钱？"),
    ("{place}每天{number}点开门", "{place}几点开门？"),
    ("{place}晚上{number}点关门", "{place}几点关门？"),
    ("{place}在中山路{number}号", "{place}在哪里？"),
    ("{place}有{number}个房间", "{place}有多少个房间？"),
)


def examples(count: int, seed: int = 1) -> list[Example]:
    chance = random.Random(seed)
    return [_example(chance, number) for number in range(count)]


def _example(chance: random.Random, number: int) -> Example:
    first, second, third, *others = chance.sample(PLACES, 5)
    told = [_fact(chance, place) for place in (first, second, third)]
    passages, which = [_passage(f"{first}指南", [said for said, _ in told])], 1
    if chance.random() < 0.4:
        passages.append(_passage(f"{others[0]}介绍", [_fact(chance, place)[0] for place in others]))
        if chance.random() < 0.5:
            passages.reverse()
            which = 2
    said, question = chance.choice(told)
    messages = (
        {"role": "system", "content": PERSONA.system},
        {"role": "user", "content": framed(passages, question, "zh")},
        {"role": "assistant", "content": f"{said}。[{which}]"},
    )
    return Example(messages, (0.0, 0.0, 1.0), "imported", Source(f"file:chinese:{number}", language="zh"))


def _fact(chance: random.Random, place: str) -> tuple[str, str]:
    said, question = chance.choice(FACTS)
    return said.format(place=place, number=chance.choice(NUMBERS)), question.format(place=place)


def _passage(title: str, sentences: list[str]) -> Passage:
    text = "".join(f"{each}。" for each in sentences)
    return Passage("", 0, "shared", title, title, "", "", None, None, text, 1.0, 1.0, 1.0)
