"""The definitions of every language, and what is made of them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import filesystem_retrieval.symbols as asking
from filesystem_retrieval.chunking import passages
from filesystem_retrieval.grammars import answer, definitions
from filesystem_retrieval.languages import LANGUAGES, Language
from filesystem_retrieval.reading import Text, kind_of
from filesystem_retrieval.symbols import symbols
from usrland.errors import InvalidInput, NotFound

SOURCES: dict[str, tuple[str, list[str]]] = {
    "python": (
        """\
class A:
  @x
  def foo(self): pass
async def bar(): pass
""",
        [
            "1-3 class A",
            "2-3 class A > def foo",
            "4-4 def bar",
        ],
    ),
    "javascript": (
        """\
class A { foo() {} }
const bar = async () => {};
module.exports = { baz: function () {} };
""",
        [
            "1-1 class A",
            "1-1 class A > method foo",
            "2-2 const bar",
            "3-3 function baz",
        ],
    ),
    "typescript": (
        """\
export class A { foo(): void {} }
interface B { x: number }
export const bar = (x: number) => x;
namespace N { function q() {} }
type T = string;
export default function z() {}
""",
        [
            "1-1 class A",
            "1-1 class A > method foo",
            "2-2 interface B",
            "3-3 const bar",
            "4-4 namespace N",
            "4-4 namespace N > function q",
            "5-5 type T",
            "6-6 function z",
        ],
    ),
    "tsx": (
        """\
export function App() { return <div/>; }
""",
        [
            "1-1 function App",
        ],
    ),
    "go": (
        """\
package a
type A struct{}
func (a *A) Foo() {}
func Bar() {}
type (
 B int
 C = string
)
""",
        [
            "2-2 type A",
            "3-3 method Foo",
            "4-4 func Bar",
            "6-6 type B",
            "7-7 type C",
        ],
    ),
    "java": (
        """\
class A { A() {} int foo() { return 1; } interface I {} }
record R(int x) {}
""",
        [
            "1-1 class A",
            "1-1 class A > method A",
            "1-1 class A > method foo",
            "1-1 class A > interface I",
            "2-2 record R",
        ],
    ),
    "rust": (
        """\
struct A;
impl Foo for A { fn foo(&self) {} }
impl<T> A<T> { fn bar() {} }
trait T { fn x(); }
macro_rules! m { () => {} }
""",
        [
            "1-1 struct A",
            "2-2 impl A",
            "2-2 impl A > fn foo",
            "3-3 impl A<T>",
            "3-3 impl A<T> > fn bar",
            "4-4 trait T",
            "4-4 trait T > fn x",
            "5-5 macro m",
        ],
    ),
    "c": (
        """\
struct a { int x; };
typedef struct { int y; } b;
static int *foo(int x) {
 return 0;
}
enum c { X };
#define M(x) (x)
""",
        [
            "1-1 struct a",
            "2-2 type b",
            "3-5 function foo",
            "6-6 enum c",
            "7-7 macro M",
        ],
    ),
    "cpp": (
        """\
namespace n {
class A {
 public:
  A();
  int foo() const { return 1; }
};
int A::bar(int x) { return x; }
template <class T> T baz(T x) { return x; }
}
""",
        [
            "1-9 namespace n",
            "2-6 namespace n > class A",
            "5-5 namespace n > class A > function foo",
            "7-7 namespace n > function A::bar",
            "8-8 namespace n > function baz",
        ],
    ),
    "csharp": (
        """\
namespace N { public class A { public int X { get; set; } public A() {} public void Foo() {} } }
""",
        [
            "1-1 namespace N",
            "1-1 namespace N > class A",
            "1-1 namespace N > class A > property X",
            "1-1 namespace N > class A > method A",
            "1-1 namespace N > class A > method Foo",
        ],
    ),
    "ruby": (
        """\
module M
 class A < B
  def foo(x)
  end
  def self.bar; end
 end
end
""",
        [
            "1-7 module M",
            "2-6 module M > class A",
            "3-4 module M > class A > method foo",
            "5-5 module M > class A > method bar",
        ],
    ),
    "php": (
        """\
<?php
class A { public function foo() {} }
function bar() {}
""",
        [
            "2-2 class A",
            "2-2 class A > method foo",
            "3-3 function bar",
        ],
    ),
    "bash": (
        """\
foo() {
 echo
}
function bar { echo; }
""",
        [
            "1-3 function foo",
            "4-4 function bar",
        ],
    ),
    "scala": (
        """\
object A { def foo(x: Int) = x }
trait B
case class C(x: Int)
""",
        [
            "1-1 object A",
            "1-1 object A > def foo",
            "2-2 trait B",
            "3-3 class C",
        ],
    ),
    "kotlin": (
        """\
package a
class A(val x: Int) {
  fun foo(): Int = x
}
object B { fun bar() {} }
fun top() {}
""",
        [
            "2-4 class A",
            "3-3 class A > fun foo",
            "5-5 object B",
            "5-5 object B > fun bar",
            "6-6 fun top",
        ],
    ),
    "swift": (
        """\
class A {
  func foo() -> Int { 1 }
  init() {}
}
struct B {}
extension A { func bar() {} }
func top() {}
""",
        [
            "1-4 class A",
            "2-2 class A > func foo",
            "5-5 class B",
            "6-6 class A",
            "6-6 class A > func bar",
            "7-7 func top",
        ],
    ),
    "lua": (
        """\
local function a() end
function M.b(x) return x end
function M:c() end
local d = function() end
""",
        [
            "1-1 function a",
            "2-2 function M.b",
            "3-3 function M:c",
        ],
    ),
    "haskell": (
        """\
module A where
data T = X | Y
foo :: Int -> Int
foo x = x
class C a where
  bar :: a
instance C T where
  bar = X
""",
        [
            "2-2 data T",
            "3-4 let foo",
            "5-6 class C",
            "7-8 instance C",
            "8-8 instance C > let bar",
        ],
    ),
    "ocaml": (
        """\
let foo x = x + 1
type t = A | B
module M = struct
  let bar = 2
end
""",
        [
            "1-1 let foo",
            "2-2 type t",
            "3-5 module M",
            "4-4 module M > let bar",
        ],
    ),
    "julia": (
        """\
module A
function foo(x)
  x
end
struct B
  x::Int
end
macro m(x)
 x
end
bar(x) = x
end
""",
        [
            "1-12 module A",
            "2-4 module A > function foo",
            "5-7 module A > struct B",
            "8-10 module A > macro m",
        ],
    ),
    "elixir": (
        """\
defmodule A.B do
  def foo(x), do: x
  defp bar(x) when x > 1 do
    x
  end
  def baz do
 1
 end
end
""",
        [
            "1-9 defmodule A.B",
            "2-2 defmodule A.B > def foo",
            "3-5 defmodule A.B > defp bar",
            "6-8 defmodule A.B > def baz",
        ],
    ),
    "zig": (
        """\
const A = struct {
  x: i32,
  pub fn foo(self: A) i32 { return self.x; }
};
pub fn main() void {}
""",
        [
            "1-4 const A",
            "3-3 const A > fn foo",
            "5-5 fn main",
        ],
    ),
    "powershell": (
        """\
function Get-A { param($x) $x }
class B {
  [int] Foo() { return 1 }
}
""",
        [
            "1-1 function Get-A",
            "2-4 class B",
            "3-3 class B > method Foo",
        ],
    ),
    "objc": (
        """\
@interface A : NSObject
- (int)foo:(int)x;
@end
@implementation A
- (int)foo:(int)x { return x; }
@end
int main() { return 0; }
""",
        [
            "1-3 class A",
            "4-6 class A",
            "5-5 class A > method foo",
            "7-7 function main",
        ],
    ),
    "solidity": (
        """\
contract A {
  function foo() public {}
  event E(uint x);
  modifier m() { _; }
}
interface I {}
""",
        [
            "1-5 contract A",
            "2-2 contract A > function foo",
            "3-3 contract A > event E",
            "4-4 contract A > modifier m",
            "6-6 interface I",
        ],
    ),
    "fortran": (
        """\
module a
contains
  subroutine foo(x)
    integer :: x
  end subroutine
  function bar(x) result(y)
    y = x
  end function
end module
""",
        [
            "1-9 module a",
            "3-5 module a > subroutine foo",
            "6-8 module a > function bar",
        ],
    ),
}


def test_there_is_a_source_for_every_language() -> None:
    assert SOURCES.keys() == LANGUAGES.keys()
    assert len(SOURCES) >= 20


@pytest.mark.parametrize("language", SOURCES)
def test_definitions_are_found_with_their_names_and_lines(language: str) -> None:
    source, expected = SOURCES[language]

    found = definitions(source, language)

    assert [f"{each.first_line}-{each.last_line} {' > '.join(each.trail)}" for each in found] == expected
    assert symbols(source, language) == found  # of the other process


@pytest.mark.parametrize("language", SOURCES)
def test_every_passage_of_code_is_a_piece_of_the_file(language: str) -> None:
    source = SOURCES[language][0] * 40
    extension = LANGUAGES[language].extensions.split()[0]
    assert kind_of(f"a{extension}", b"") == language

    found = passages(Text(text=source), language)

    assert [each for each in found if each.text not in source or len(each.text) > 800] == []
    assert "".join("".join(each.text.split()) for each in found) == "".join(source.split())
    assert any(each.heading for each in found)


def test_a_grammar_whose_nodes_were_renamed_costs_the_symbols_and_not_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renamed = Language(package="tree_sitter_python", extensions=".py", nodes="some_other_node")
    missing = Language(package="tree_sitter_missing", extensions=".py", nodes="function_definition")
    known = {"renamed": renamed, "missing": missing}
    monkeypatch.setattr("filesystem_retrieval.grammars.LANGUAGES", known)

    assert [definitions("def f(): pass", each) for each in ("renamed", "missing", "unknown")] == [[], [], []]
    assert symbols("def f(): pass", "unknown") == []


def test_a_file_that_kills_its_grammar_is_cut_as_text_and_the_next_one_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begin = asking._started

    def started(*programs: str) -> None:
        asking._asked.close()
        waiting = list(programs)

        def start() -> subprocess.Popen[bytes]:
            if not waiting:
                return begin()
            command = [sys.executable, "-c", waiting.pop(0)]
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

        monkeypatch.setattr(asking, "_started", start)

    started("import os; os.abort()")
    assert symbols("def f(): pass", "python") == []
    assert [each.name for each in symbols("def f(): pass", "python")] == ["f"]
    assert "crashed" in caplog.text

    started("")  # ended before anybody asked, as it does when nobody has for a while
    assert [each.name for each in symbols("def f(): pass", "python")] == ["f"]

    monkeypatch.setattr(asking, "WALL_SECONDS", 0.2)
    started("import time; time.sleep(60)")
    assert symbols("def f(): pass", "python") == []


def test_the_process_answers_until_nobody_asks() -> None:
    begun: list[bool] = []

    def answered(asked: bytes, idle_seconds: float) -> list[bytes]:
        reading, writing = os.pipe()
        os.write(writing, asked)
        answers = io.BytesIO()
        with os.fdopen(reading, "rb") as requests, os.fdopen(writing, "wb") as held:
            if idle_seconds > 1:
                held.close()
            answer(requests, answers, idle_seconds, lambda: begun.append(True))
        return answers.getvalue().splitlines()

    request = b'["python", 13]\ndef f(): pass'

    assert answered(request, 0.0) == [b'[["def", "f", 1, 1, []]]']
    assert answered(b"", 60.0) == []
    assert begun == [True]


def test_the_processor_time_of_a_parser_ends() -> None:
    endless = "from filesystem_retrieval.extract import _limit_time\n_limit_time(0)\nwhile True: pass"

    done = subprocess.run([sys.executable, "-c", endless], check=False)

    assert done.returncode == -signal.SIGXCPU


def test_comments_and_decorators_above_a_definition_belong_to_it() -> None:
    source = """\
import os  # not this

# Opens it.
# Twice.
@cached
@checked
def open():
    pass


x = 1  # nor this
def close():
    pass
"""
    assert [(each.name, each.first_line) for each in symbols(source, "python")] == [("open", 3), ("close", 12)]
    rust = "/// Doc.\n#[derive(Debug)]\npub struct A;\n\n// Other.\n\nfn b() {}\n"
    assert [(each.name, each.first_line) for each in symbols(rust, "rust")] == [("A", 1), ("b", 7)]


@pytest.mark.parametrize(
    "text", ["", "def (", "class A:\n  def", "\0\0", "(" * 5000, "\r\rdef a(): pass\r", "é = 'x'"]
)
def test_what_is_broken_is_cut_all_the_same(text: str) -> None:
    for language in LANGUAGES:
        joined = "".join(passage.text for passage in passages(Text(text=text), language))
        assert "".join(joined.split()) == "".join(text.split())


async def test_an_outline_leads_to_the_part_that_is_read(desk: Any) -> None:
    desk.write(
        "bank.py",
        "import os\n\n\nclass Account:\n    def close(self):\n        os.sync()\n\n\ndef close():\n    pass\n",
    )
    desk.write(
        "guide.md", "# Guide\n\nHello.\n\n## Travel\n\nTrains.\n\n### Refunds\n\nLate.\n\n## Home\n\nEnd.\n"
    )
    desk.write("page.html", "<h1>Seas</h1><p>One.</p>\n<h2>Walrus</h2>\n<p>Two.</p>\n")

    code = await desk.use("fs_outline", "bank.py")
    assert [(each.title, each.level, each.first_line, each.last_line) for each in code.items] == [
        ("class Account", 1, 4, 6),
        ("def close", 2, 5, 6),
        ("def close", 1, 9, 10),
    ]
    guide = await desk.use("fs_outline", "guide.md")
    assert [(each.title, each.level, each.first_line, each.last_line) for each in guide.items] == [
        ("Guide", 1, 1, 16),
        ("Travel", 2, 5, 12),
        ("Refunds", 3, 9, 12),
        ("Home", 2, 13, 16),
    ]
    page = await desk.use("fs_outline", "page.html")
    assert [(each.title, each.level, each.first_line) for each in page.items] == [("Seas", 1, 1), ("Walrus", 2, 2)]

    method = await desk.use("fs_read", "bank.py", symbol="Account.close")
    assert method.text == "    def close(self):\n        os.sync()"
    assert (await desk.use("fs_read", "guide.md", symbol="Travel")).first_line == 5
    with pytest.raises(InvalidInput, match="5-6, 9-10"):
        await desk.use("fs_read", "bank.py", symbol="def close")
    with pytest.raises(NotFound, match="Account"):
        await desk.use("fs_read", "bank.py", symbol="Acount")
