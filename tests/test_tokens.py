from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from usrland import tokens

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it opens its own data in a deprecated way, while it is imported
    import bpe_openai


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello world",
        "def f(x):\n    return x  # naïve\n",
        "日本語のテキスト 🎉",
        "<|endoftext|>",
        "a" * 5_000,
        " " * 5_000,
    ],
)
def test_the_count_is_the_length_of_the_encoding(text: str) -> None:
    assert tokens.count(text) == len(bpe_openai.get_encoding("o200k_base").encode_ordinary(text))


def test_half_a_surrogate_pair_is_counted_and_not_an_error() -> None:
    assert tokens.count("\ud83d ok") == tokens.count("? ok")


def test_a_text_longer_than_the_package_itself_accepts_is_counted() -> None:
    assert tokens.count("one two three\n" * 100_000) == 400_000


def test_importing_loads_no_vocabulary_and_counting_leaves_the_slow_package_alone() -> None:
    script = (
        "import sys; from usrland import tokens; before = 'bpe_openai._bindings' in sys.modules;"
        "tokens.count('hello'); print(before, 'bpe_openai' in sys.modules)"
    )

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert printed.split() == ["False", "False"]
