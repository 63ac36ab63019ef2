"""Programming languages: how their files are called, who parses them, and what counts as a definition.

A definition is named by a query in tree-sitter's own language: the whole is captured as `@it`, and its name as
`@name` where the grammar has no field of that name. Grammars come as packages of their own, one for each language,
that hold everything and fetch nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["LANGUAGES", "LANGUAGE_BY_EXTENSION", "Language"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One grammar. `nodes` are the types of its definitions; `patterns` say the same of those that need more."""

    package: str
    extensions: str
    nodes: str
    patterns: str = ""
    function: str = "language"
    """Of the package, which gives the grammar."""
    word: str = "function"
    """What the language itself calls a function."""

    @property
    def query(self) -> str:
        return "\n".join([*(f"({node}) @it" for node in self.nodes.split()), self.patterns])


_JAVASCRIPT = "class_declaration function_declaration generator_function_declaration method_definition"
_ARROW = """
(variable_declarator name: (identifier) value: [(arrow_function) (function_expression)]) @it
(pair key: (property_identifier) @name value: [(arrow_function) (function_expression)]) @it
"""
_TYPESCRIPT = (
    f"{_JAVASCRIPT} abstract_class_declaration interface_declaration enum_declaration type_alias_declaration "
    "internal_module function_signature"
)
_C = "function_definition"
_C_TYPES = """
(struct_specifier name: (_) body: (_)) @it
(union_specifier name: (_) body: (_)) @it
(enum_specifier name: (_) body: (_)) @it
(type_definition declarator: (type_identifier) @name) @it
(preproc_function_def name: (_)) @it
"""

LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        word="def",
        package="tree_sitter_python",
        extensions=".py .pyi .pyw",
        nodes="class_definition function_definition",
    ),
    "javascript": Language(
        package="tree_sitter_javascript", extensions=".js .jsx .mjs .cjs", nodes=_JAVASCRIPT, patterns=_ARROW
    ),
    "typescript": Language(
        package="tree_sitter_typescript",
        extensions=".ts .mts .cts",
        nodes=_TYPESCRIPT,
        patterns=_ARROW,
        function="language_typescript",
    ),
    "tsx": Language(
        package="tree_sitter_typescript",
        extensions=".tsx",
        nodes=_TYPESCRIPT,
        patterns=_ARROW,
        function="language_tsx",
    ),
    "go": Language(
        word="func",
        package="tree_sitter_go",
        extensions=".go",
        nodes="function_declaration method_declaration type_spec type_alias",
    ),
    "java": Language(
        package="tree_sitter_java",
        extensions=".java",
        nodes="class_declaration interface_declaration enum_declaration record_declaration "
        "annotation_type_declaration method_declaration constructor_declaration",
    ),
    "rust": Language(
        word="fn",
        package="tree_sitter_rust",
        extensions=".rs",
        nodes="function_item function_signature_item struct_item enum_item union_item trait_item mod_item "
        "macro_definition type_item",
        patterns="(impl_item type: (_) @name) @it",
    ),
    "c": Language(package="tree_sitter_c", extensions=".c .h", nodes=_C, patterns=_C_TYPES),
    "cpp": Language(
        package="tree_sitter_cpp",
        extensions=".cc .cpp .cxx .c++ .hh .hpp .hxx .h++ .ipp .inl",
        nodes=f"{_C} namespace_definition concept_definition alias_declaration",
        patterns=f"{_C_TYPES} (class_specifier name: (_) body: (_)) @it",
    ),
    "csharp": Language(
        package="tree_sitter_c_sharp",
        extensions=".cs",
        nodes="class_declaration interface_declaration struct_declaration enum_declaration record_declaration "
        "delegate_declaration namespace_declaration method_declaration constructor_declaration "
        "property_declaration",
    ),
    "ruby": Language(
        word="def",
        package="tree_sitter_ruby",
        extensions=".rb .rake .gemspec",
        nodes="class module method singleton_method",
    ),
    "php": Language(
        package="tree_sitter_php",
        extensions=".php .phtml",
        nodes="class_declaration interface_declaration trait_declaration enum_declaration function_definition "
        "method_declaration",
        function="language_php",
    ),
    "bash": Language(package="tree_sitter_bash", extensions=".sh .bash .zsh .ksh", nodes="function_definition"),
    "scala": Language(
        word="def",
        package="tree_sitter_scala",
        extensions=".scala .sc",
        nodes="class_definition object_definition trait_definition enum_definition function_definition",
    ),
    "kotlin": Language(
        word="fun",
        package="tree_sitter_kotlin",
        extensions=".kt .kts",
        nodes="class_declaration object_declaration function_declaration",
    ),
    "swift": Language(
        word="func",
        package="tree_sitter_swift",
        extensions=".swift",
        nodes="class_declaration protocol_declaration function_declaration protocol_function_declaration",
    ),
    "lua": Language(package="tree_sitter_lua", extensions=".lua", nodes="function_declaration"),
    "haskell": Language(
        word="let",
        package="tree_sitter_haskell",
        extensions=".hs",
        nodes="function bind data_type newtype class instance",
    ),
    "ocaml": Language(
        package="tree_sitter_ocaml",
        extensions=".ml",
        nodes="",
        patterns="""
        (value_definition (let_binding pattern: (value_name) @name)) @it
        (type_definition (type_binding name: (_) @name)) @it
        (module_definition (module_binding (module_name) @name)) @it
        """,
        function="language_ocaml",
    ),
    "julia": Language(
        package="tree_sitter_julia",
        extensions=".jl",
        nodes="module_definition",
        patterns="""
        (function_definition (signature) @name) @it
        (macro_definition (signature) @name) @it
        (struct_definition (type_head) @name) @it
        """,
    ),
    "elixir": Language(
        package="tree_sitter_elixir",
        extensions=".ex .exs",
        nodes="",
        patterns="""
        ((call target: (identifier) @word (arguments (alias) @name)) @it
          (#any-of? @word "defmodule" "defprotocol" "defimpl"))
        ((call target: (identifier) @word (arguments (call target: (identifier) @name))) @it
          (#any-of? @word "def" "defp" "defmacro" "defmacrop" "defguard"))
        ((call target: (identifier) @word
          (arguments (binary_operator left: (call target: (identifier) @name)))) @it
          (#any-of? @word "def" "defp" "defmacro" "defmacrop" "defguard"))
        ((call target: (identifier) @word (arguments (identifier) @name)) @it (#any-of? @word "def" "defp"))
        """,
    ),
    "zig": Language(
        word="fn",
        package="tree_sitter_zig",
        extensions=".zig",
        nodes="function_declaration",
        patterns="""
        (variable_declaration (identifier) @name
          [(struct_declaration) (enum_declaration) (union_declaration)]) @it
        """,
    ),
    "powershell": Language(
        package="tree_sitter_powershell",
        extensions=".ps1 .psm1",
        nodes="",
        patterns="""
        (function_statement (function_name) @name) @it
        (class_statement (simple_name) @name) @it
        (class_method_definition (simple_name) @name) @it
        """,
    ),
    "objc": Language(
        package="tree_sitter_objc",
        extensions=".m .mm",
        nodes=_C,
        patterns="""
        (class_interface . (identifier) @name) @it
        (class_implementation . (identifier) @name) @it
        (protocol_declaration . (identifier) @name) @it
        (method_definition (identifier) @name) @it
        """,
    ),
    "solidity": Language(
        package="tree_sitter_solidity",
        extensions=".sol",
        nodes="contract_declaration interface_declaration library_declaration function_definition "
        "modifier_definition event_definition struct_declaration enum_declaration",
    ),
    "fortran": Language(
        package="tree_sitter_fortran",
        extensions=".f90 .f95 .f03 .f08 .f",
        nodes="",
        patterns="""
        (module (module_statement (name) @name)) @it
        (program (program_statement (name) @name)) @it
        (subroutine (subroutine_statement name: (name) @name)) @it
        (function (function_statement name: (name) @name)) @it
        """,
    ),
}

LANGUAGE_BY_EXTENSION: Mapping[str, str] = {
    extension: name for name, language in LANGUAGES.items() for extension in language.extensions.split()
}
