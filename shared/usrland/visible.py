"""Characters that a person does not see and a model reads: written out, so that both see the same.

Text from files, rows, mails and other systems can carry instructions in characters that no screen shows (tags,
variation selectors, zero-width marks), turn its own reading order around (bidirectional controls) or drive a
terminal (escape sequences). What leaves this process shows them as `<U+202E>`. Kept as they are: joiners inside
words of scripts that need them and inside emoji, a variation selector behind what it selects, soft hyphens
(layout, in half of all PDF files), tab, line and page breaks.

A refusal repeats what it was given, and goes where nobody expects content: into the logs of hosts, onto status
pages, through templates. So it also shows what a page, a template or a shell would act on.

Sources: Unicode UAX 9 and UTS 39; OWASP, Log Injection.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["inert_text", "visible", "visible_text"]

_ALWAYS = (
    "\x00-\x08\x0b\x0e-\x1f\x7f-\x9f"  # control characters, escape among them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks, embeddings, overrides, isolates
    "\u200b\u2060-\u2065\u206a-\u206f\ufeff"  # zero width, invisible operators, deprecated format characters
    "\u115f\u1160\u3164\uffa0\u17b4\u17b5\u180b-\u180f"  # fillers, Khmer and Mongolian marks without a glyph
    "\ufe00-\ufe0d\ufff9-\ufffb"  # selectors nobody types, interlinear annotation
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # musical controls, tags, the other selectors
    "\ud800-\udfff"  # half a character
)
_HIDDEN = re.compile(
    f"[{_ALWAYS}]"
    "|(?<![\u0300-\U0010ffff])[\u200c\u200d]|[\u200c\u200d](?![\u0300-\U0010ffff])"  # joiners that join nothing
    "|(?<=[\u200c\u200d])[\u200c\u200d]"
    "|(?<=[\ufe00-\ufe0fA-Za-z\\s])[\ufe0e\ufe0f]|^[\ufe0e\ufe0f]"  # selectors that select nothing
)
_SUSPECT = re.compile(f"[{_ALWAYS}\u200c\u200d\ufe0e\ufe0f]")
"""All that may be hidden: almost no text has any, and one class is found ten times as fast."""
_ACTIVE = re.compile(
    "<(?=[A-Za-z/!?])"  # a tag
    r"|!(?=\[)"  # a picture that Markdown fetches
    r"|\$(?=[{(])|\{(?=[{%#])|(?<=['\"/=;])`"  # what a template or a shell puts in; ours follow a blank
    r"|(?<![^\s\"(=])'(?=\s*;)"  # the end of a text in a statement put together by text
    r"|\.(?=\./\.\./\.\./)"  # a way up
)


def inert_text(text: str) -> str:
    """`visible_text`, and the first character of all that another program would act on written out, too."""
    return visible_text(_ACTIVE.sub(_written, text))


def visible_text(text: str) -> str:
    """The text with every hidden character written out; the text itself where there is none."""
    return _HIDDEN.sub(_written, text) if _SUSPECT.search(text) else text


def visible(value: Any) -> tuple[Any, int]:
    """A JSON value with every hidden character of its texts and keys written out, and how many there were."""
    count = 0

    def shown(part: Any) -> Any:
        nonlocal count
        match part:
            case str() if _SUSPECT.search(part):
                made, found = _HIDDEN.subn(_written, part)
                count += found
                return made
            case dict():
                return {shown(key): shown(inner) for key, inner in part.items()}
            case list():
                return [shown(inner) for inner in part]
            case _:
                return part

    return shown(value), count


def _written(match: re.Match[str]) -> str:
    return f"<U+{ord(match[0]):04X}>"
