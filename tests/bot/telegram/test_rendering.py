"""What a reply looks like in Telegram."""

from __future__ import annotations

import pytest

from bot.telegram.rendering import Part, plain, render
from tests.bot.telegram.parts import covered, faults, marked, shown
from tests.bot.telegram.replies import CHINESE, HTML, LATEX, LINKS, NARROW_TABLE, PYTHON, QUOTES, REPLIES, STEPS, TASKS


@pytest.mark.parametrize("name", REPLIES)
def test_a_typical_reply_is_one_message_that_telegram_takes(name: str):
    parts = render(REPLIES[name])
    assert len(parts) == 1
    assert faults(parts[0]) == []


def test_marks_become_entities():
    assert shown("**bold** *it* ~~gone~~ `code` ***both***") == (
        "<bold>bold</bold> <italic>it</italic> <strikethrough>gone</strikethrough> <code>code</code> "
        "<bold><italic>both</italic></bold>"
    )


def test_a_heading_has_no_emoji_before_it():
    assert shown("# One\n### Three\ntext") == "<bold><underline>One</underline></bold>\n<bold>Three</bold>\ntext"


def test_entities_count_in_utf16_units():
    (part,) = render("😀👨‍👩‍👧 中文 **粗体😀** `x`")
    bold, code = part.entities
    assert (bold.offset, bold.length) == (len("😀👨‍👩‍👧 中文 ".encode("utf-16-le")) // 2, 4)
    assert [covered(part, bold), covered(part, code)] == ["粗体😀", "x"]


def test_code_keeps_its_language_and_its_indent():
    text = marked(render(PYTHON))
    assert text.startswith("Here is a function that does it:\n\n<pre python>import json\n")
    assert "    if not path.exists():\n        return {}\n" in text


@pytest.mark.parametrize(
    ("info", "language"),
    [("py", "py"), ('python title="x.py"', "python"), ("{.haskell .big}", "haskell"), ("c++", "c++"), ("", None)],
)
def test_the_language_is_the_first_word_of_the_fence(info: str, language: str | None):
    (part,) = render(f"```{info}\nx\n```")
    assert [entity.language for entity in part.entities] == [language]


def test_tabs_in_code_become_the_spaces_that_they_stand_for():
    assert shown("```go\nif x {\n\treturn\t1\n}\n```") == "<pre go>if x {\n    return  1\n}</pre>"


def test_code_in_an_item_stands_on_lines_of_its_own():
    text = marked(render(STEPS))
    assert "1. <bold>Get the source:</bold>\n<pre bash>git clone" in text
    assert "cd tool</pre>\nThis takes a minute.\n2. Build" in text
    assert "\n  • Try <code>tool --help</code>\n" in text
    assert "\n    • chapter 1 is <italic>short</italic>" in text


def test_a_heading_in_an_item_does_not_run_into_its_text():
    assert shown("- # Head\n  text\n- next") == "• <bold>Head</bold>\ntext\n• next"


def test_tasks_have_boxes():
    assert shown(TASKS).splitlines()[2:4] == [
        "☑ write the tests",
        "☐ update the <strikethrough>docs</strikethrough> <italic>changelog</italic>",
    ]


def test_one_tilde_means_about_and_an_asterisk_between_numbers_stays():
    assert shown("~5 to ~10, 2*3*4") == "~5 to ~10, 2*3*4"


def test_a_quote_within_a_quote_is_part_of_it():
    (part,) = render(QUOTES)
    assert [covered(part, entity) for entity in part.entities if entity.type == "blockquote"] == [
        "The first line of the quote.\nThe second, with bold and code.\n\nAnd one within it.\n\n"
        "• a list\n• in a quote\n\n  indented code"
    ]
    assert "<pre>  indented code</pre></blockquote>" in marked([part])


def test_a_long_quote_is_not_folded():
    assert shown("> " + "word " * 100) == f"<blockquote>{'word ' * 99}word</blockquote>"


def test_html_is_text():
    assert shown(HTML) == (
        "Use a <code><div></code>, or <b>bold</b> in HTML:\n\n<details>\n<summary>More</summary>\n\n"
        "The text <bold>inside</bold>.\n\n</details>\n\nA line<br>and a <!-- comment -->."
    )


def test_what_code_cannot_contain_is_left_out():
    assert shown("**a `b` c**") == "<bold>a</bold> <code>b</code> <bold>c</bold>"
    assert shown("[`name`](https://example.com)") == "<text_link https://example.com>name</text_link>"
    assert shown("**a [b *c*](https://example.com) d**") == (
        "<bold>a</bold> <text_link https://example.com><bold>b</bold> <bold><italic>c</italic></bold></text_link> "
        "<bold>d</bold>"
    )


def test_two_bars_are_no_spoiler():
    assert shown("if a || b or c || d") == "if a || b or c || d"


# Links


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "http://example.com:8080/a?b=c#d",
        "HTTPS://例子.中国/路",
        "https://me:pw@example.com/",
        "tg://resolve?domain=telegram",
    ],
)
def test_a_link_that_telegram_follows_is_one(url: str):
    assert shown(f"[here]({url})") == f"<text_link {url}>here</text_link>"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/",
        "https://example.com:99999/",
        "https://exa^mple.com/",
        "javascript:alert(1)",
        "./README.md",
        "example.com/page",
        "ftp://example.com",
        "tg://user?id=1",
        "tg://emoji?id=5368324170671202286",
        "http://[::1]/",
    ],
)
def test_a_link_that_telegram_refuses_is_text_and_address(url: str):
    assert shown(f"[here]({url})") == f"here ({url})"


def test_a_link_to_an_address_of_mail_shows_the_address():
    assert shown("[mail](mailto:me@example.com) <me@example.com>") == "mail (me@example.com) me@example.com"


def test_a_link_within_the_document_is_only_its_text():
    assert shown("[below](#part-2)") == "below"


def test_links_keep_everything_that_they_show():
    assert shown(LINKS).splitlines()[3:] == [
        "<text_link https://example.com/cat.png>A picture</text_link> As shown in [1] and "
        "<text_link https://example.com/second>[2]</text_link>, it works[1].",
        "[third]: https://example.com/third",
        "",
        "[1] Mostly.",
    ]


def test_a_number_that_is_a_link_keeps_its_brackets():
    assert shown("Paris[1](https://example.com/a)") == "Paris<text_link https://example.com/a>[1]</text_link>"


@pytest.mark.parametrize("source", ["[](https://example.com/a)", "![](https://example.com/a)"])
def test_a_link_with_no_text_shows_where_it_leads(source: str):
    assert shown(source) == "<text_link https://example.com/a>https://example.com/a</text_link>"


def test_a_picture_that_is_a_link_is_one_link():
    assert shown("[![alt](https://example.com/i.png)](https://example.com)") == (
        "<text_link https://example.com>alt</text_link>"
    )


# Tables


def test_a_small_table_stands_in_columns():
    assert shown(NARROW_TABLE) == (
        "<bold><underline>Comparison</underline></bold>\n\n"
        "<pre>Language | Typed | Year\n"
        "---------+-------+-----\n"
        "Python   |  no   | 1991\n"
        "Rust     |  yes  | 2015\n"
        "仓颉     |  yes  | 2024</pre>\n\n"
        "Both are <bold>fine</bold>."
    )


def test_a_wide_table_is_a_list_of_what_each_row_says():
    assert shown(REPLIES["wide_table"]).split("\n\n")[1:] == [
        "<bold>Plan:</bold> Team\n"
        "<bold>What you get:</bold> Up to ten users, <code>sso</code>, thirty days of history\n"
        "<bold>Who it is for:</bold> Small companies, see <text_link https://example.com/p>pricing</text_link>",
        "<bold>Plan:</bold> Enterprise\n"
        "<bold>What you get:</bold> Everything in Team\nA contract\n"
        "<bold>Who it is for:</bold> Anybody who needs one",
    ]


def test_a_chinese_character_takes_two_columns():
    wide = "|" + "中" * 21 + "|\n|-|\n|x|"
    assert "<pre>" not in shown(wide)
    assert "<pre>" in shown(wide.replace("中", "a"))


def test_a_small_table_with_a_link_is_a_list_as_columns_cannot_be_followed():
    assert shown("|a|b|\n|-|-|\n|1|[x](https://example.com)|") == (
        "<bold>a:</bold> 1\n<bold>b:</bold> <text_link https://example.com>x</text_link>"
    )
    assert shown("|a|\n|-|\n|Link|") == "<pre>a\n----\nLink</pre>"


def test_cells_that_the_head_has_no_name_for_are_kept():
    assert shown("|a|b|\n|-|-|\n|1|2|3|4|\n|x|") == "<pre>a | b\n--+--------\n1 | 2 | 3|4\nx |</pre>"


def test_formulas_and_breaks_in_cells_stay_there():
    assert shown("before\n\n|a|b|\n|-|-|\n|$x^2$|one<br>two|") == (
        "before\n\n<pre>a  | b\n---+----\nx² | one\n   | two</pre>"
    )


def test_a_table_in_an_item_stands_on_lines_of_its_own():
    assert shown("1. See:\n\n   |a|b|\n   |-|-|\n   |1|2|\n2. End") == (
        "1. See:\n<pre>a | b\n--+--\n1 | 2</pre>\n2. End"
    )


# Chinese


def test_chinese_replies_look_as_they_were_meant():
    text = shown(CHINESE)
    assert "<bold>第一步：</bold>先选一门语言。推荐 <bold>Python</bold>，因为" in text
    assert "可以选<bold>“易语言”</bold>这样的" in text
    assert '<pre python>print("你好，世界！")</pre>\n3. 多练习' in text
    assert "<blockquote>学而时习之，不亦说乎？</blockquote>" in text
    assert "<pre>语言   | 难度\n-------+-----\nPython | 低\nC++    | 很高</pre>" in text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("**注意：**请看", "<bold>注意：</bold>请看"),
        ("这是**（重要）**的", "这是<bold>（重要）</bold>的"),
        ("**“一”**和**“二”**。", "<bold>“一”</bold>和<bold>“二”</bold>。"),
        ("~~旧：~~新", "<strikethrough>旧：</strikethrough>新"),
        ("**`x`**是", "<code>x</code>是"),
        ("`**注意：**请看`", "<code>**注意：**请看</code>"),
        ("乘方**（见下）", "乘方**（见下）"),
    ],
)
def test_emphasis_needs_no_spaces_in_chinese(source: str, expected: str):
    assert shown(source) == expected


# Formulas


def test_formulas_are_readable_and_prices_stay():
    assert shown(LATEX) == (
        "The quadratic formula is\n\n<pre>x = (-b ± √(b² - 4ac))/2a</pre>\n\n"
        "where <code>a ≠ 0</code>, so <code>x₁ + x₂ = -b/a</code>. It costs $5 to $10, not $20.\n\n"
        "<pre>∑ᵢ₌₁ⁿ i = (n(n+1))/2</pre>\n\nIn code it stays <code>\\(a\\)</code>."
    )


@pytest.mark.parametrize(
    "source",
    ["$5-$10", "US$5, or $6.50 (~$7)", "$HOME/$USER", "a $ b $ c", "it is $5, or 6$ tomorrow", "$", "$$", "$$$"],
)
def test_other_dollars_stay_as_they_are(source: str):
    assert shown(source) == source


def test_a_formula_on_its_own_lines_does_not_run_into_the_text():
    assert shown("so $$x^2$$ follows") == "so \n<pre>x²</pre>\nfollows"
    assert shown("- so\n  \\[\n  x^2\n  \\]\n  follows") == "• so\n<pre>x²</pre>\nfollows"


def test_a_formula_too_long_to_be_read_is_shown_as_it_is_written():
    formula = "\\alpha + " * 400
    assert shown(f"$${formula}$$") == f"<pre>{formula.strip()}</pre>"


def test_brackets_that_hold_words_are_brackets():
    assert shown("\\[see below\\] \\(or above\\) \\(n\\)") == "[see below] (or above) <code>n</code>"


# Nothing to see, and bad input


@pytest.mark.parametrize("source", ["", " ", "\n\n\t \n", "\u3000\u00a0", "\x00\x1b", "\u200b\u200d", "\u202e"])
def test_nothing_to_see_is_no_message(source: str):
    assert render(source) == []
    assert render(source, unfinished=True) == []
    assert plain(source) == []


@pytest.mark.parametrize(
    "source", ["**", "```", "```\n```", "```py\n\n```", "#", "- ", "[]()", "![]()", "|", "`", "$$"]
)
def test_markdown_that_shows_nothing_is_shown_as_it_is_written(source: str):
    for unfinished in (False, True):
        (part,) = render(source, unfinished=unfinished)
        assert part.text.strip()
        assert faults(part) == []


def test_a_rule_alone_is_a_line():
    assert shown("---") == "————————"


def test_characters_that_cannot_be_sent_are_replaced():
    assert shown("a\x00b\x1b[1mc \ud800 d\re\u2028f\u202eg") == "a b [1mc \ufffd d\ne\nfg"


def test_plain_text_is_not_read_as_markdown():
    assert plain("**a** <b> [x](y)\n\n- z ") == [Part("**a** <b> [x](y)\n\n- z", ())]


def test_unclosed_marks_and_fences_are_shown():
    assert shown(REPLIES["unclosed_fence"]) == (
        "This was cut:\n\n<pre js>const a = [1, 2, 3];\nfor (const x of a) {</pre>"
    )
    assert shown(REPLIES["unclosed_marks"]) == "It is **very important to know that `this [link](https://exa"
