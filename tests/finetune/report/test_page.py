"""The report as a page: everything that people should see is there, and nothing in it can do anything."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lxml import html as lxml_html

from finetune import report
from finetune.record import Check, DataCounts, Decision, Interval, Point, Record, Sample, Training
from tests.finetune.report.records import CHECKS, DATA, JUST_BEGUN, PROMOTED, SAMPLES, TABLE, TRAINING

NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}\x00\x1b[31m\udc80 \u202eאב‏ 🔑 中文"
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "article", "figure"),
    *("figcaption", "h1", "h2", "h3", "h4", "p", "span", "bdi", "strong", "code", "div", "ul", "li", "dl", "dt", "dd"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("svg", "desc", "line", "polyline", "circle", "rect", "text"),
}


def page(record: Record) -> Any:
    return lxml_html.document_fromstring(report.html(record))


def shown(record: Record) -> str:
    tree = page(record)
    for style in tree.xpath("//style"):
        style.drop_tree()
    return re.sub(r"\s+", " ", tree.text_content())


def row_of(record: Record, name: str) -> str:
    (row,) = page(record).xpath(f"//tr[th[contains(., '{name}')]]")
    return re.sub(r"\s+", " ", " ".join(cell.text_content() for cell in row)).strip()


# What is shown


def test_the_verdict_comes_first_in_one_sentence() -> None:
    (headline,) = page(PROMOTED).xpath("//h1")
    said = " ".join(headline.text_content().split())
    assert said == "Promoted familiar@7 is better than familiar@6 and was promoted."
    first = page(PROMOTED).xpath("//body//*[self::h1 or self::h2 or self::table or self::svg]")[0]
    assert first.tag == "h1"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (replace(PROMOTED, verdict="rejected", version=None), "is not better than familiar@6, so nothing was changed"),
        (
            replace(PROMOTED, verdict="not_proven", version=None, decision=Decision("not_proven", "Too few.")),
            "It is not proven that what run 12 learnt is better than familiar@6",
        ),
        (replace(PROMOTED, verdict="not_proven", version=None), "was only measured"),
        (replace(JUST_BEGUN, verdict="nothing_to_learn"), "There is too little to learn from"),
        (replace(JUST_BEGUN, verdict="failed", said="Out of memory."), "Run 13 failed, and nothing was changed."),
        (JUST_BEGUN, "Run 13 is not over yet."),
    ],
)
def test_each_verdict_has_its_sentence(record: Record, said: str) -> None:
    assert said in page(record).xpath("//h1")[0].text_content()
    assert record.said in shown(record)


def test_what_an_operator_overrode_is_said_with_the_reason() -> None:
    decision = Decision("not_proven", "Too few.", CHECKS, overridden="I read all of its replies.")
    record = replace(PROMOTED, decision=decision)
    assert "promoted by an operator, though it was not proven" in page(record).xpath("//h1")[0].text_content()
    assert "I read all of its replies." in shown(record)


def test_what_answers_only_some_first_is_not_said_to_be_promoted_for_all() -> None:
    trial = replace(PROMOTED, share=0.2)
    said = " ".join(page(trial).xpath("//h1")[0].text_content().split())
    headline = "familiar@7 is better than familiar@6 and was promoted, for 20% of the conversations first."
    assert said == f"Promoted for 20% first {headline}"
    assert page(trial).xpath("//title")[0].text == "Run 12 of familiar: promoted for 20% first"
    decision = Decision("rejected", "Worse.", CHECKS, overridden="I read all of its replies.")
    said = page(replace(trial, decision=decision)).xpath("//h1")[0].text_content()
    assert "by an operator, for 20% of the conversations first, though it was rejected" in said


def test_each_check_says_whether_it_passed_in_words_and_with_its_numbers() -> None:
    assert row_of(PROMOTED, "Gain") == "Gain passed On 61 held-out conversations the loss fell by 0.213."
    assert "failed" in row_of(PROMOTED, "General text")
    assert "not proven" in row_of(PROMOTED, "Earlier runs")


def test_each_number_stands_before_and_after_with_its_interval_and_what_it_means() -> None:
    assert (
        row_of(PROMOTED, "loss a token, held-out")
        == "loss a token, held-out conversations lower is better 2.471 2.258 −0.213 (−0.287 to −0.142) better 61"
    )
    assert "+0.300 (+0.100 to +0.500) better" in row_of(PROMOTED, "what people took back")
    assert "worse" in row_of(PROMOTED, "perplexity, general")
    assert "5% 2.5% −2.5 pts (−7.5 pts to +2.5 pts) no clear change" in row_of(PROMOTED, "refusals")
    assert "412 302 −111 (−160 to −62) changed" in row_of(PROMOTED, "characters")
    assert "too few to say" in row_of(PROMOTED, "fixed questions")


def test_an_interval_is_drawn_on_its_side_of_no_change() -> None:
    (row,) = page(PROMOTED).xpath("//tr[th[contains(., 'loss a token, held-out')]]")
    zero = float(row.xpath(".//line[@class='zero']/@x1")[0])
    point = row.xpath(".//rect")[0]
    whisker = row.xpath(".//line[@class='whisker']")[0]
    assert float(whisker.get("x1")) < float(point.get("x")) + 4 < float(whisker.get("x2")) < zero
    (unknown,) = page(PROMOTED).xpath("//tr[th[contains(., 'fixed questions')]]")
    assert not unknown.xpath(".//svg")


def test_the_curves_have_axes_a_legend_and_the_step_that_was_kept() -> None:
    wide, narrow = page(PROMOTED).xpath("//figure/svg")
    for picture in (wide, narrow):
        words = [each.text_content() for each in picture.xpath(".//text")]
        assert {"step", "loss (nats a token)", "training", "validation"} <= set(words)
        assert "best: step 60, then stopped early" in words
        assert picture.xpath("./title")
        assert "validation loss from 3.333 to 2.167" in picture.xpath("./desc")[0].text_content()
        assert len(picture.xpath("./polyline")) == 2
        box = [float(each) for each in picture.get("viewbox", picture.get("viewBox")).split()]
        for x, y in (point.split(",") for line in picture.xpath("./polyline/@points") for point in line.split()):
            assert 0 < float(x) < box[2]
            assert 0 < float(y) < box[3]


def test_a_falling_loss_is_drawn_falling() -> None:
    for line in page(PROMOTED).xpath("//figure/svg/polyline/@points"):
        heights = [float(point.split(",")[1]) for point in line.split()]
        assert heights == sorted(heights)


def test_a_loss_that_is_no_number_is_a_gap_in_the_curve() -> None:
    losses = [3.0, 2.0, math.nan, 1.0, 0.9, math.inf, 1e300]
    curve = tuple(Point(step, loss, None) for step, loss in enumerate(losses, 1))
    tree = page(replace(PROMOTED, training=replace(TRAINING, curve=curve)))
    wide = tree.xpath("//figure/svg")[0]
    assert [len(points.split()) for points in wide.xpath("./polyline/@points")] == [2, 2]
    assert "nan" not in lxml_html.tostring(wide).decode().lower()
    cells = [cell.text_content() for cell in tree.xpath("//details//tr/td[1]")]
    assert "not a number" in cells
    assert "∞" in cells


def test_curves_without_any_number_are_said_to_be_missing() -> None:
    curve = (Point(1, math.nan, math.inf), Point(2, None, None))
    record = replace(PROMOTED, training=replace(TRAINING, curve=curve))
    assert "No loss was recorded that is a number." in shown(record)
    assert not page(record).xpath("//figure")


def test_a_curve_of_one_point_and_one_that_never_moves_are_drawn() -> None:
    for curve in ((Point(5, 2.0, 2.0),), tuple(Point(step, 0.0, 0.0) for step in range(5))):
        assert page(replace(PROMOTED, training=replace(TRAINING, curve=curve))).xpath("//figure/svg//circle")


def test_a_long_run_does_not_make_a_huge_page() -> None:
    curve = tuple(Point(step, 2.0, 2.0 + step % 7) for step in range(50_000))
    assert len(report.html(replace(PROMOTED, training=replace(TRAINING, curve=curve)))) < 300_000


def test_replies_stand_side_by_side_with_what_people_thought_right() -> None:
    first, second = page(PROMOTED).xpath("//article")
    assert first.xpath(".//div[contains(@class, 'side ')]/h4/text()") == ["Before", "After"]
    said = [each.text_content() for each in first.xpath(".//*[@dir='auto']")]
    assert said == ["Where is the spare key?", "I do not know.", "It is in the blue pot.", "In the blue pot."]
    assert "What people thought right" not in second.text_content()
    assert "在蓝色花盆里。🔑" in second.text_content()


def test_what_the_data_was_is_counted_and_what_was_left_out_has_its_reason() -> None:
    said = shown(PROMOTED)
    assert "from conversations of 9 people" in said
    assert "2 conversations that earlier adapters learned from are not learnt from any more" in said
    assert row_of(PROMOTED, "no consent") == "no consent 240"
    assert row_of(PROMOTED, "a new reason") == "a new reason 3"
    assert row_of(PROMOTED, "names") == "names 203"
    assert row_of(PROMOTED, "have not answered") == "have not answered 4"
    assert row_of(PROMOTED, "learnt from") == "learnt from 370 160"
    assert DATA.fingerprint in said


def test_cost_and_settings_are_there() -> None:
    said = shown(PROMOTED)
    for each in ("8 min 32 s", "12 min 47 s", "4.1 GiB", "11.5 Wh", "182,000", "4,884,480 (3.63% of the model)"):
        assert each in said
    assert row_of(PROMOTED, "finetune.rank") == "finetune.rank 16"
    assert row_of(PROMOTED, "finetune.schedule") == 'finetune.schedule ""'
    without = replace(PROMOTED, training=replace(TRAINING, energy_j=None))
    assert "no counter could be read here" in shown(without)


def test_what_an_operator_should_know_is_said() -> None:
    assert "No judge was asked." in shown(PROMOTED)


# What is missing


@pytest.mark.parametrize("missing", ["data", "training", "decision", "table", "samples", "notes", "seconds", "said"])
def test_any_part_may_be_missing(missing: str) -> None:
    default = {each.name: getattr(JUST_BEGUN, each.name) for each in fields(Record)}[missing]
    assert "familiar@7 is better" in shown(replace(PROMOTED, **{missing: default}))


def test_a_run_that_has_just_begun_has_a_page_that_says_what_is_not_there_yet() -> None:
    said = shown(JUST_BEGUN)
    assert "Nothing has been learnt yet." in said
    assert "The data is not ready yet." in said


def test_a_run_that_failed_says_what_it_did_not_come_to_and_shows_the_rest() -> None:
    record = replace(JUST_BEGUN, verdict="failed", said="Out of memory.", data=DATA)
    assert "The run ended before anything was learnt." in shown(record)
    assert row_of(record, "no consent") == "no consent 240"


def test_empty_parts_and_numbers_that_are_none_do_not_break_it() -> None:
    odd = Interval("loss a token, general text", math.nan, math.inf, -math.inf, -math.inf, math.nan, 0)
    checks = (Check("", None, "", math.nan, -math.inf, math.inf, math.nan, 0),)
    record = replace(
        PROMOTED,
        data=DataCounts(),
        training=Training("", ""),
        table=(odd, replace(odd, low=-math.inf, high=math.inf)),
        decision=Decision("rejected", "", checks),
        samples=(Sample("", "", "", "", ""),),
        seconds={"training": math.nan, "another_stage": math.inf},
    )
    assert "not a number ∞ −∞" in row_of(replace(record, table=(odd,)), "loss a token")
    assert "nan" not in re.sub(r"not a number", "", report.html(record)).lower().replace("finance", "")
    assert "(nothing)" in shown(record)


# What it must not do


def test_words_of_conversations_are_only_text() -> None:
    sample = Sample("log:1", NASTY, NASTY, NASTY, NASTY)
    check = Check(NASTY, True, NASTY)
    record = Record(
        1,
        NASTY,
        NASTY,
        JUST_BEGUN.started_at,
        verdict="failed",
        said=NASTY,
        before=NASTY,
        data=DataCounts({NASTY: 1}, {NASTY: 2}, {NASTY: 1}, {NASTY: 1}, 1, {NASTY: 1}, {NASTY: 1}, source=NASTY),
        training=replace(TRAINING, method=NASTY, base=NASTY, device=NASTY, settings={NASTY: NASTY}),
        table=(replace(TABLE[0], name=NASTY),),
        decision=Decision("rejected", NASTY, (check,), overridden=NASTY),
        samples=(sample,),
        notes=(NASTY,),
        seconds={NASTY: 1.0},
    )
    written = report.html(record)
    written.encode()  # what cannot be written to a file is gone
    assert "\x00" not in written
    assert "\x1b" not in written
    tree = lxml_html.document_fromstring(written)
    assert {each.tag for each in tree.iter() if isinstance(each.tag, str)} <= ALLOWED
    assert not [name for each in tree.iter() if isinstance(each.tag, str) for name in each.attrib if name[:2] == "on"]
    said = tree.xpath("//article//*[@dir='auto']")[0].text_content()
    assert said.startswith("<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}")
    assert "49" not in said
    assert "🔑 中文" in said


def test_the_page_loads_nothing_and_its_policy_allows_only_its_own_style() -> None:
    written = report.html(PROMOTED)
    tree = page(PROMOTED)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrc=|\bhref=", written)
    (policy,) = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    style = re.search("<style>(.*?)</style>", written, re.DOTALL)
    assert style is not None
    own = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{own}'; base-uri 'none'; form-action 'none'"
    assert not tree.xpath("//*[@style] | //script")


def test_a_long_word_is_whole_and_can_be_broken_and_scrolled_to_by_keyboard() -> None:
    record = replace(PROMOTED, samples=(replace(SAMPLES[0], after="w" * 10_000),))
    tree = page(record)
    (long,) = [each for each in tree.xpath("//*[@dir='auto']") if "w" * 10_000 in each.text_content()]
    assert long.get("tabindex") == "0"
    assert long.get("aria-label") == "Reply after"
    assert "overflow-wrap: anywhere" in _rule(".said")


# For everybody


@pytest.mark.parametrize("record", [PROMOTED, JUST_BEGUN])
def test_headings_tables_and_pictures_can_be_read_by_a_screen_reader(record: Record) -> None:
    tree = page(record)
    assert tree.get("lang") == "en"
    levels = [int(each.tag[1]) for each in tree.xpath("//h1 | //h2 | //h3 | //h4")]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(table.xpath("./caption") for table in tree.xpath("//table"))
    assert all(head.get("scope") in {"row", "col"} for head in tree.xpath("//th"))
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    named = {each for names in tree.xpath("//@aria-labelledby") for each in names.split()}
    assert named <= set(ids)
    for picture in tree.xpath("//svg"):
        assert picture.get("role") == "img"
        assert picture.get("aria-label") or picture.get("aria-labelledby")


def test_letters_stand_out_from_what_is_behind_them_in_light_and_dark() -> None:
    behind = {"--ink": ("paper", "card", "faint"), "--soft": ("paper", "card", "faint")}
    behind |= {"--train": ("card",), "--validation": ("card", "paper")}
    behind |= {f"--{each}": ("card", f"{each}-paper") for each in ("good", "bad", "open")}
    for colours in _schemes():
        for letters, papers in behind.items():
            for paper in papers:
                assert _contrast(colours[letters], colours[f"--{paper}"]) >= 4.5, (letters, paper)


def _style() -> str:
    return (Path(report.__file__).parent / "page.css").read_text()


def _rule(selector: str) -> str:
    return next(line for line in _style().splitlines() if line.startswith(f"{selector} {{"))


def _schemes() -> list[dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", _style(), re.DOTALL)
    schemes = [dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    assert len(schemes) >= 2
    return schemes[:2]


def _contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
