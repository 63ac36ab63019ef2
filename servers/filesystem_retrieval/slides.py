"""Presentations → the text of each slide, in the order in which they are shown. Runs in the parser's process."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator

from filesystem_retrieval.containers import Refused
from usrland.markup import Tree, parsed

__all__ = ["slides"]

_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_SHOW = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_OFFICE = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_PACKAGE = "{http://schemas.openxmlformats.org/package/2006/relationships}"
_MAIN = "ppt/presentation.xml"
_TITLES = ("title", "ctrTitle")
_REPEATED = ("dt", "ftr", "sldNum", "sldImg")
"""Date, footer and number, and in the notes the picture of the slide."""


def slides(content: bytes) -> Iterator[str]:
    """Title as a heading, then paragraphs, rows of tables, and what the speaker noted."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            targets = _related(archive, _MAIN)
            for entry in _parsed(archive, _MAIN).iter(f"{_SHOW}sldId"):
                _, slide = targets[entry.attrib[f"{_OFFICE}id"]]
                yield "\n".join(_slide(archive, slide))
    except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
        raise Refused("it is damaged") from error


def _slide(archive: zipfile.ZipFile, path: str) -> Iterator[str]:
    yield from _said(_parsed(archive, path))
    for kind, target in _related(archive, path).values():
        if kind.endswith("/notesSlide"):
            notes = [line for line in _said(_parsed(archive, target)) if line]
            if notes:
                yield from ("", "Notes:", "", *notes)


def _said(root: Tree) -> Iterator[str]:
    for shape in root.iter():
        if shape.tag == f"{_SHOW}sp":
            place = shape.find(f".//{_SHOW}ph")
            kind = place.get("type", "") if place is not None else ""
            lines = [] if kind in _REPEATED else [_line(part) for part in shape.iter(f"{_DRAWING}p")]
            lines = [line for line in lines if line]
            if lines and kind in _TITLES:
                yield from (f"## {' '.join(lines)}", "")
            elif lines:
                yield from (*lines, "")
        elif shape.tag == f"{_DRAWING}tbl":
            for row in shape.iter(f"{_DRAWING}tr"):
                yield f"| {' | '.join(_line(cell) for cell in row.iter(f'{_DRAWING}tc'))} |"
            yield ""


def _line(part: Tree) -> str:
    return " ".join("".join(text.text or "" for text in part.iter(f"{_DRAWING}t")).split())


def _related(archive: zipfile.ZipFile, path: str) -> dict[str, tuple[str, str]]:
    """Kind and path of the parts that a part names, by their ids."""
    folder, name = posixpath.split(path)
    try:
        root = _parsed(archive, f"{folder}/_rels/{name}.rels")
    except KeyError:
        return {}
    return {
        each.attrib["Id"]: (
            each.attrib["Type"],
            posixpath.normpath(posixpath.join("/", folder, each.attrib["Target"]))[1:],
        )
        for each in root.iter(f"{_PACKAGE}Relationship")
        if each.get("TargetMode") != "External"
    }


def _parsed(archive: zipfile.ZipFile, path: str) -> Tree:
    return parsed(archive.read(path))
