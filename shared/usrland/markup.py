"""XML that others wrote: parsed only where it declares no document type, and so no entities to multiply."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.parsers import expat

__all__ = ["Tree", "parsed"]

Tree = ElementTree.Element


def parsed(content: bytes) -> Tree:
    """The root element. Raises `ValueError` where it is no XML, or declares a document type."""
    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = _refuse
    try:
        guard.Parse(content, True)
        return ElementTree.fromstring(content)  # nosec B314 # without a document type
    except (expat.ExpatError, ElementTree.ParseError) as error:
        raise ValueError("it is no XML") from error


def _refuse(*_: object) -> None:
    raise ValueError("it declares a document type")
