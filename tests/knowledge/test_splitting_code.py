"""Source code is cut by class and function, in every language that there is a grammar for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from knowledge.parsed import Block, ParsedDocument
from knowledge.splitting import Piece, split

WORD_OR_SIGN = re.compile(r"[^\W\d_]{1,6}|\S", re.ASCII)


def count(texts: Sequence[str]) -> list[int]:
    return [len(WORD_OR_SIGN.findall(text)) for text in texts]


def chunks(source: str, language: str, chunk_tokens: int = 130) -> list[Piece]:
    document = ParsedDocument("source", "code", (Block("code", source, language=language),))
    return split(document, count, chunk_tokens=chunk_tokens)


def written_out(source: str) -> str:
    """Each line of BODY becomes five statements: more than half a chunk, so that no two functions share one."""
    statements = r'\1value = combine(value, one, "left", "right");\n' * 5
    return re.sub(r"^( *)BODY\n", statements, source, flags=re.MULTILINE)


PYTHON = """
import os
import sys

# about first
@cached
def first(value):
    BODY


class Shop:
    '''Sells.'''

    rate = 1

    @property
    def total(self):
        BODY

    async def close(self):
        BODY
"""
JAVASCRIPT = """
import x from 'x';

/** about first */
export function first(value) {
  BODY
}

export const second = async (value) => {
  BODY
};

class Shop extends Base {
  // total
  total(value) {
    BODY
  }

  close = () => {
    BODY
  }
}

module.exports.third = function (value) {
  BODY
};
"""
TYPESCRIPT = """
import x from 'x';

export default class Shop<T> {
  @dec()
  total(value: T): void {
    BODY
  }
  private close(value: T) {
    BODY
  }
}

namespace Tools {
  export function first(value: any) {
    BODY
  }
  export function second(value: any) {
    BODY
  }
}
"""
TSX = """
export function View(props: Props) {
  BODY
  return <div>{value}</div>;
}

const Other = (props: Props) => {
  BODY
  return <b/>;
};
"""
JAVA = """
package shop;
import java.util.*;

/** Sells. */
public class Shop {
  private int rate;

  public Shop() {
    BODY
  }

  /** The total. */
  @Override
  public int total(int value) {
    BODY
  }

  static class Till {
    void open() {
      BODY
    }
    void close() {
      BODY
    }
  }
}
"""
C = """
#ifndef SHOP_H
#define SHOP_H
#include <stdio.h>

/* about first */
static int *first(int value)
{
  BODY
}

int second(int value)
{
  BODY
}
#endif
"""
CPP = """
namespace shop {

template <class T>
class Till : public Base {
 public:
  Till() {
    BODY
  }
  T& total(T value) {
    BODY
  }
};

int& Till::close(int value) {
  BODY
}

}  // namespace shop
"""
GO = """
package shop

import "fmt"

// First is it.
func First(value int) int {
  BODY
}

func (t *Till[T]) Total(value int) int {
  BODY
}
"""
RUST = """
use std::fmt;

/// About first.
#[inline]
pub fn first(value: i32) {
  BODY
}

impl<T> Sells for Shop<T> {
  /// The total.
  fn total(&self) {
    BODY
  }

  fn close(&self) {
    BODY
  }
}
"""
RUBY = """
require 'x'

module Market
  class Shop < Base
    attr_reader :rate

    # The total.
    def total(value)
      BODY
    end

    def self.open(value)
      BODY
    end
  end
end
"""
PHP = """<?php
namespace Market;

class Shop {
  /** The total. */
  #[Pure]
  public function total($value) {
    BODY
  }
  function close($value) {
    BODY
  }
}

function first($value) {
  BODY
}
"""
C_SHARP = """
using System;
namespace Market {
  public class Shop {
    public int Rate { get; set; }

    /// <summary>Total</summary>
    [Pure]
    public int Total(int value) {
      BODY
    }
    public Shop(int value) {
      BODY
    }
  }
}
"""
BASH = """
#!/bin/bash
set -e

# about first
first() {
  BODY
}

function second {
  BODY
}
"""
NAMES = {
    "python": (PYTHON, ["first", "Shop.total", "Shop.close"]),
    "javascript": (JAVASCRIPT, ["first", "second", "Shop.total", "Shop.close", "module.exports.third"]),
    "typescript": (TYPESCRIPT, ["Shop.total", "Shop.close", "Tools.first", "Tools.second"]),
    "tsx": (TSX, ["View", "Other"]),
    "java": (JAVA, ["Shop.Shop", "Shop.total", "Shop.Till.open", "Shop.Till.close"]),
    "c": (C, ["first", "second"]),
    "cpp": (CPP, ["shop::Till::Till", "shop::Till::total", "shop::Till::close"]),
    "go": (GO, ["First", "Till.Total"]),
    "rust": (RUST, ["first", "Shop::total", "Shop::close"]),
    "ruby": (RUBY, ["Market::Shop::total", "Market::Shop::open"]),
    "php": (PHP, ["Shop::total", "Shop::close", "first"]),
    "c-sharp": (C_SHARP, ["Market.Shop.Total", "Market.Shop.Shop"]),
    "bash": (BASH, ["first", "second"]),
}
SOURCES = {language: (written_out(source), names) for language, (source, names) in NAMES.items()}


@pytest.mark.parametrize("language", SOURCES)
def test_each_function_is_a_chunk_under_its_qualified_name(language):
    source, names = SOURCES[language]
    pieces = chunks(source, language)

    assert [piece.heading for piece in pieces if piece.heading in names] == names
    for name in names:
        [piece] = [piece for piece in pieces if piece.heading == name]
        assert re.split(r"::|\.", name)[-1] in piece.text
        assert piece.text.count("combine") == 5
    assert "".join("".join(piece.text.split()) for piece in pieces) == "".join(source.split())


@pytest.mark.parametrize(
    ("language", "name", "begins"),
    [
        ("python", "first", "# about first\n@cached\ndef first"),
        ("python", "Shop.total", "    @property\n    def total"),
        ("javascript", "first", "/** about first */\nexport function first"),
        ("javascript", "Shop.total", "class Shop extends Base {\n  // total\n  total"),
        ("typescript", "Shop.total", "export default class Shop<T> {\n  @dec()\n  total"),
        ("java", "Shop.total", "  /** The total. */\n  @Override\n  public int total"),
        ("c", "first", "/* about first */\nstatic int *first"),
        ("go", "First", "// First is it.\nfunc First"),
        ("rust", "first", "/// About first.\n#[inline]\npub fn first"),
        ("ruby", "Market::Shop::open", "    def self.open"),
        ("php", "Shop::total", "class Shop {\n  /** The total. */\n  #[Pure]\n  public function total"),
        ("c-sharp", "Market.Shop.Shop", "    public Shop"),
        ("bash", "first", "# about first\nfirst()"),
    ],
)
def test_comments_and_decorators_stay_with_what_they_stand_before(language, name, begins):
    [piece] = [piece for piece in chunks(SOURCES[language][0], language) if piece.heading == name]

    assert piece.text.startswith(begins)


def test_a_class_that_fits_is_one_chunk():
    small = "class Small:\n    def a(self):\n        return 1\n\n    def b(self):\n        return 2\n"
    pieces = chunks(SOURCES["python"][0] + "\n\n" + small, "python")

    assert ("Small", small.rstrip()) in [(piece.heading, piece.text) for piece in pieces]


def test_a_file_that_fits_is_one_chunk():
    [piece] = chunks("import os\n\n\ndef f():\n    return os\n", "python")

    assert piece.heading == ""


def test_tiny_functions_of_a_class_share_a_chunk_under_its_name():
    methods = [f"    def get_{letter}(self):\n        return {letter}\n" for letter in "abcdefghijklmnopqrst"]
    pieces = chunks("class Point:\n" + "\n".join(methods), "python")

    assert {piece.heading for piece in pieces} == {"Point"}
    assert len(pieces) < 5
    assert all(piece.text.count("def") == piece.text.count("return") for piece in pieces)


def test_a_long_function_is_cut_between_statements_and_every_chunk_of_it_has_its_name():
    statements = [f"    if ready({number}):\n        start({number})\n        log({number})\n" for number in range(30)]
    pieces = chunks("def main():\n" + "".join(statements), "python")

    assert len(pieces) >= 4
    assert {piece.heading for piece in pieces} == {"main"}
    assert all(piece.text.endswith(")") for piece in pieces)  # none after the colon of an if


def test_what_is_cut_keeps_its_indentation():
    pieces = chunks(SOURCES["python"][0], "python")

    assert pieces[-1].text.startswith("    async def close(self):\n        value")


def test_a_closing_brace_stays_with_what_it_closes():
    for language in ("java", "cpp", "rust", "c-sharp", "typescript"):
        assert all(re.search(r"\w", piece.text) for piece in chunks(SOURCES[language][0], language)), language


def test_code_in_a_language_without_a_grammar_is_cut_at_blank_lines():
    paragraphs = ["\n".join(f"MOVE {letter} TO STORE" for _ in range(6)) for letter in "ABCDEFGH"]
    pieces = chunks("\n\n".join(paragraphs), "cobol", 60)

    assert all(piece.heading == "" for piece in pieces)
    assert [part for piece in pieces for part in piece.text.split("\n\n")] == paragraphs


def test_code_that_cannot_be_parsed_is_still_cut_by_the_functions_in_it():
    broken = SOURCES["javascript"][0].replace("import x from 'x';", "import {{{ from ))) 'x")

    assert "Shop.total" in [piece.heading for piece in chunks(broken, "javascript")]


def test_code_inside_a_text_is_whole_where_it_fits_and_has_its_name_after_the_heading_where_not():
    document = ParsedDocument(
        "Guide",
        "markdown",
        (
            Block("heading", "Usage", level=1),
            Block("paragraph", "Call it so."),
            Block("code", "def f():\n    return 1\n", language="python"),
            Block("paragraph", "And this is the whole."),
            Block("code", SOURCES["go"][0], language="go"),
        ),
    )
    pieces = split(document, count, chunk_tokens=130)

    assert pieces[0].text.startswith("Call it so.\n\ndef f():\n    return 1\n\nAnd this is the whole.")
    assert [piece.heading for piece in pieces if "›" in piece.heading] == ["Usage › First", "Usage › Till.Total"]


def test_classes_nested_without_end_do_not_end_the_program():
    source = "class A {\n" * 5000 + "}\n" * 5000
    pieces = chunks(source, "java")

    assert sum(piece.text.count("class") for piece in pieces) == 5000


@pytest.mark.parametrize("fence", ["py", "JS", "c++", "golang", "sh", "cs", "C#"])
def test_languages_are_known_by_the_names_that_fences_use(fence):
    from knowledge.splitting.grammars import parser_of

    assert parser_of(fence, "") is not None
