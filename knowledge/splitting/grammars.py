"""What the classes and functions of a language look like in tree-sitter's grammars, and how to read their names.

Names of nodes hardly differ in meaning between grammars, so one table serves all languages.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Parser

# language as knowledge.reading or a code fence calls it: (module, function that gives the grammar, what joins names)
_PYTHON = ("tree_sitter_python", "language", ".")
_JAVASCRIPT = ("tree_sitter_javascript", "language", ".")
_TYPESCRIPT = ("tree_sitter_typescript", "language_typescript", ".")
_TSX = ("tree_sitter_typescript", "language_tsx", ".")
_JAVA = ("tree_sitter_java", "language", ".")
_C = ("tree_sitter_c", "language", ".")
_CPP = ("tree_sitter_cpp", "language", "::")
_GO = ("tree_sitter_go", "language", ".")
_RUST = ("tree_sitter_rust", "language", "::")
_RUBY = ("tree_sitter_ruby", "language", "::")
_PHP = ("tree_sitter_php", "language_php", "::")
_PHP_ONLY = ("tree_sitter_php", "language_php_only", "::")
_C_SHARP = ("tree_sitter_c_sharp", "language", ".")
_BASH = ("tree_sitter_bash", "language", ".")

GRAMMARS: dict[str, tuple[str, str, str]] = {
    **dict.fromkeys(("python", "py", "python3", "pyi"), _PYTHON),
    **dict.fromkeys(("javascript", "js", "jsx", "mjs", "cjs", "node"), _JAVASCRIPT),
    **dict.fromkeys(("typescript", "ts", "mts", "cts"), _TYPESCRIPT),
    "tsx": _TSX,
    "java": _JAVA,
    **dict.fromkeys(("c", "h"), _C),
    **dict.fromkeys(("cpp", "c++", "cc", "cxx", "hpp", "hh"), _CPP),
    **dict.fromkeys(("go", "golang"), _GO),
    **dict.fromkeys(("rust", "rs"), _RUST),
    **dict.fromkeys(("ruby", "rb"), _RUBY),
    "php": _PHP,
    **dict.fromkeys(("c-sharp", "c_sharp", "csharp", "c#", "cs"), _C_SHARP),
    **dict.fromkeys(("bash", "sh", "shell", "zsh", "ksh"), _BASH),
}


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


CONTAINERS = _set("""
    class_definition class_declaration abstract_class_declaration class_specifier class interface_declaration
    enum_declaration record_declaration annotation_type_declaration struct_declaration record_struct_declaration
    struct_specifier union_specifier namespace_definition namespace_declaration internal_module module impl_item
    trait_item mod_item trait_declaration
    """)
FUNCTIONS = _set("""
    function_definition function_declaration generator_function_declaration method_definition method_declaration
    constructor_declaration compact_constructor_declaration destructor_declaration operator_declaration
    conversion_operator_declaration indexer_declaration function_item macro_definition method singleton_method
    type_declaration type_alias_declaration type_definition enum_specifier struct_item enum_item union_item
    delegate_declaration
    """)
# Around one definition: `export class`, `@decorator def`, `template <class T> class`.
WRAPPERS = _set("export_statement decorated_definition template_declaration expression_statement ambient_declaration")
# Around any number of them, without a name that would help.
TRANSPARENT = _set("""
    preproc_if preproc_ifdef preproc_else preproc_elif linkage_specification declaration_list singleton_class
    enum_body_declarations body_statement ERROR
    """)
# What stands before a definition and belongs to it.
LEADING = _set("comment line_comment block_comment attribute_item decorator attribute_list annotation")

_ASSIGNED = _set("""
    lexical_declaration variable_declaration variable_declarator field_definition public_field_definition
    assignment_expression
    """)
_FUNCTION_VALUES = _set("arrow_function function_expression function generator_function class")
_BODIES = _set("declaration_list class_body field_declaration_list block body_statement interface_body enum_body")
_LONGEST_NAME = 100


def parser_of(language: str, text: str) -> tuple[Parser, str] | None:
    """A parser and what joins the parts of a qualified name; None for a language that there is no grammar for."""
    grammar = GRAMMARS.get(language.strip().lower())
    if grammar is _PHP and "<?" not in text:
        grammar = _PHP_ONLY  # the fence of a Markdown page rarely opens the tag
    return (_parser(grammar[0], grammar[1]), grammar[2]) if grammar else None


def _parser(module: str, function: str) -> Parser:
    from tree_sitter import Parser

    return Parser(_language(module, function))  # one a call: a parser is not for several threads


@cache
def _language(module: str, function: str) -> Language:
    from tree_sitter import Language

    return Language(getattr(importlib.import_module(module), function)())


def definition_in(node: Node) -> Node | None:
    """The class or function that this node is, or that it wraps (`export const f = () => {}` too)."""
    if node.type in CONTAINERS or node.type in FUNCTIONS:
        return node
    if node.type in WRAPPERS:
        return next((found for child in node.named_children if (found := definition_in(child))), None)
    if node.type in _ASSIGNED:
        if node.type in ("lexical_declaration", "variable_declaration"):
            children = [child for child in node.named_children if child.type == "variable_declarator"]
            return definition_in(children[0]) if len(children) == 1 else None
        value = node.child_by_field_name("value") or node.child_by_field_name("right")
        return node if value is not None and value.type in _FUNCTION_VALUES else None
    return None


def body_of(container: Node) -> Node | None:
    body = container.child_by_field_name("body")
    return body or next((child for child in container.named_children if child.type in _BODIES), None)


def name_of(node: Node) -> str:
    """As it is written, a method of Go with its receiver's type; "" for what has no name."""
    if node.type == "impl_item":
        return _plain(node.child_by_field_name("type"))
    if node.type == "type_declaration":
        first = next(iter(node.named_children), None)
        return _plain(first.child_by_field_name("name")) if first else ""
    name = node.child_by_field_name("name") or node.child_by_field_name("property")
    if name is None:
        return _plain(node.child_by_field_name("left") or _declared(node))
    receiver = node.child_by_field_name("receiver")
    if receiver is not None and receiver.named_children:
        return f"{_plain(receiver.named_children[-1].child_by_field_name('type'))}.{_plain(name)}"
    return _plain(name)


def _declared(node: Node) -> Node | None:
    """What a C or C++ declarator declares, under its pointers, references and parameters."""
    declared = None
    inner: Node | None = node
    while inner is not None:
        outer, inner = inner, inner.child_by_field_name("declarator")
        if inner is None and "declarator" in outer.type:
            inner = next((child for child in outer.named_children if child.type.endswith("declarator")), None)
        declared = inner or declared
    return declared


def _plain(node: Node | None) -> str:
    if node is None or node.text is None:
        return ""
    name = " ".join(node.text.decode("utf-8", "replace").split()).lstrip("*&")
    name = name.partition("<")[0] or name if "operator" not in name else name
    return name.partition("[")[0][:_LONGEST_NAME].strip()
