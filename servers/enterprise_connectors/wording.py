"""How people and APIs word the same thing.

Text is split where people read a boundary (camelCase, punctuation, letters against digits) and stemmed, so
that `createIssue`, "issues/create" and "create an issue" meet. What stemming cannot know is written down here:
words that APIs and people use for one another (a ticket is an issue), and what the first verb of a request
says about the kind of operation that is looked for. General English only; nothing here names a product.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import lru_cache

import snowballstemmer

from usrland.connector import Effect

__all__ = ["asked", "plain", "spaced", "synonyms", "words"]

_BOUNDARY = re.compile(
    r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
)
_WORD = re.compile(r"[^\W_]+")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STOP = _set("""
a an and are as at be by can do for from get has have how i in into is it its me my of on or our please
that the their them then this to use was we what when where which who will with you your
""")

# what APIs call by their method and people by what it does; only verbs that mean one thing in both
_SAME: Mapping[str, str] = {
    "post": "create",
    "add": "create",
    "insert": "create",
    "remove": "delete",
    "edit": "update",
    "modify": "update",
    "patch": "update",
    "put": "update",
}

_GROUPS = """
create open file raise make new start register submit log write publish
list show find fetch retrieve search view look read see check
delete drop erase throw kick revoke
update change rename set replace move
send post write
close resolve finish
cancel stop abort
start run trigger dispatch launch execute
assign hand give
ticket issue bug incident case
person people user member employee colleague somebody contact
collaborator member access
permission access role sharing
customer client buyer
invoice bill
charge payment pay
pulls pr
repository repo project
channel conversation room
message chat sms
folder directory
document file attachment
meeting event appointment
film movie
song track music
tv show series
band artist musician
picture image photo
mail email
phone call telephone
bucket container storage
stock inventory
item product article
log history
money payment balance
sale order
comment note remark
worklog hours
text transcription
refund back repay reimburse
transition status state stage workflow
share collaboration invite
meeting agenda calendar
password credential secret key token
vendor supplier
deal opportunity lead
pipeline workflow build job
alert alarm monitor notification
server instance machine node host
domain dns zone
deploy deployment release rollout
label tag
team group
organization company workspace
subscription plan
coupon discount promotion
payout transfer withdraw
shipment delivery fulfillment
free busy availability slot
form survey questionnaire
recipient receiver subscriber audience
campaign newsletter mailing
signature sign
quota limit
usage consumption metrics
report statistics analytics
webhook hook callback
duplicate copy clone
lock suspend disable deactivate block ban
unlock enable activate resume
approve accept confirm
reject decline deny
due deadline
remind notify
"""
"""One line is one meaning; a word may stand in several."""

_FILLERS = _set("please can could you i want to we need a an the me help let us would like")
_VERBS: Mapping[Effect, frozenset[str]] = {
    "read": _set("""
list show get find fetch retrieve search view look read see check download count
which what who whose when where how is are do does tell
"""),
    "write": _set("""
create open file raise make add new start register submit post put upload send write publish update change edit
modify rename set patch replace move invite assign give grant hand share schedule book close resolve merge
approve run trigger append enable disable turn comment log attach copy pay charge refund
follow subscribe save pause resume play skip like rate star pin mark archive lock reserve sign
"""),
    "destroy": _set("delete remove drop erase cancel revoke throw kick ban purge unfollow unsubscribe"),
}
_GIVE_ME = re.compile(r"\b(?:give|hand)\s+(?:me|us)\b", re.IGNORECASE)
"""Whoever says so wants to see something, and gives nobody anything."""
_VERB_WITHIN = 12
"""Words. A verb that stands later belongs to the story and not to what is asked."""

_stemmer = snowballstemmer.stemmer("english")
_stemming = threading.Lock()  # a stemmer keeps the word it works on in itself


def words(text: str) -> list[str]:
    """Stems in the order they stand, without the words that say nothing."""
    return [stem for word in _WORD.findall(text) for stem in _stems(word)]


def plain(text: str) -> list[str]:
    """Stems of the words as people write them, names left whole: GitHub is not a hub."""
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP]


def synonyms(word: str) -> frozenset[str]:
    """Stems that often stand where this stem does; without the stem itself."""
    return _synonyms().get(word, frozenset())


def asked(request: str) -> Effect | None:
    """What the request's first verb says it wants to happen; None where it does not say."""
    shown = _GIVE_ME.sub("show", request)
    plain = [word for word in map(str.lower, _WORD.findall(shown)) if word not in _FILLERS]
    for word in plain[:_VERB_WITHIN]:
        for effect, verbs in _VERBS.items():
            if word in verbs:
                return effect
    return None


def spaced(text: str) -> str:
    """An identifier as words: `repos_listPulls` → `repos list Pulls`."""
    return " ".join(_WORD.findall(_BOUNDARY.sub(" ", text)))


@lru_cache(maxsize=65_536)
def _stems(word: str) -> tuple[str, ...]:
    """Of what may be several words written as one."""
    found = (part.lower() for part in _WORD.findall(_BOUNDARY.sub(" ", word)))
    return tuple(_stem(_SAME.get(part, part)) for part in found if part not in _STOP)


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    with _stemming:
        return str(_stemmer.stemWord(word))


@lru_cache(maxsize=1)
def _synonyms() -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for line in _GROUPS.split("\n"):
        group = frozenset(words(line))
        for word in group:
            found[word] = found.get(word, frozenset()) | group - {word}
    return found
