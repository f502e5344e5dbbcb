r"""
Credentials that their name gives away: `password=...`, `"api_key": "..."`, headers.

A name is compared in lower case without anything but letters and digits, so that
`X-Api-Key`, `x_api_key` and `xApiKey` are one.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from fleetwake.producer.redaction.needles import Needles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleetwake.producer.redaction.shapes import Span

__all__ = [
    "SCHEMES",
    "NameRules",
    "has_scheme",
    "is_folder",
    "plain_name",
    "scheme_spans",
]

# How names of secrets end, and how whole ones read. The names of headers are those of
# RFC 9110, RFC 6265 and of the large vendors' interfaces.
_ENDINGS: Final = (
    *("password", "passwd", "passphrase", "passcode", "pwd"),
    *("secret", "secrets", "credential", "credentials", "token", "bearer", "jwt"),
    *("apikey", "apikeys", "secretkey", "accesskey", "privatekey", "signingkey"),
    *("encryptionkey", "accountkey", "sharedkey", "masterkey", "authkey", "hmackey"),
    *("subscriptionkey", "functionskey", "storagekey", "licensekey", "deploykey"),
    *("authorization", "cookie", "cookies", "connectionstring", "clientassertion"),
    *("amzsignature", "googsignature"),
)
_WHOLE: Final = frozenset({"auth", "otp", "pass", "sig", "totp"})
# Where a token is a piece of text, or a place in a list.
_HARMLESS: Final = (
    *("pagetoken", "nexttoken", "continuationtoken", "continuetoken", "synctoken"),
    *("eostoken", "bostoken", "padtoken", "stoptoken", "unktoken", "septoken"),
    *("clstoken", "masktoken", "pertoken", "maxtoken", "firsttoken", "lasttoken"),
    *("previoustoken", "prevtoken", "cursortoken", "starttoken", "endtoken"),
)
# OPENAI_KEY and its like; in lower case a key is most often one of a mapping.
_UPPER_KEY: Final = re.compile(r"[A-Z][A-Z0-9_]*_KEY")
_HARMLESS_KEY: Final = (
    *("primarykey", "foreignkey", "publickey", "uniquekey", "partitionkey", "sortkey"),
    *("cachekey", "indexkey", "hostkey", "idempotencykey", "routingkey", "groupkey"),
)
# What each such name has in it, in lower case: the cheap question comes first.
_STEMS: Final = (
    *("pass", "pwd", "secret", "credential", "token", "bearer", "jwt", "key", "auth"),
    *("cookie", "connectionstring", "connection_string", "assertion", "otp", "sig="),
    *("-signature",),
)
_MAX_NAME_CHARS: Final = 64
_NO_LETTERS: Final = re.compile(r"[^a-z0-9]+")
_NAME_BACKWARDS: Final = re.compile(r"[\w.-]{1,64}")
_ASSIGNMENT: Final = (
    r"""[\w.-]{0,40}(?P<quote>["'`\\\]]{0,8})"""
    r"""(?P<sign>\s{0,4}(?:=>|:=|[:=]|(?<=["'`]),)\s{0,4}|>)"""
)

# The value after a name: quoted to the quotation mark, bare to a delimiter.
_QUOTED: Final = re.compile(r"""\\{0,4}["'`]([^"'`\\\r\n]{1,4096})""")
_BARE: Final = re.compile(r"""[^\s"'`\\,;&<>(){}\[\]|]{1,4096}""")
_ELEMENT: Final = re.compile(r"[^<>]{1,4096}(?=</)")
_OPTION: Final = re.compile(r"-(?<![\w-]-)-?([A-Za-z][\w.-]{0,63})[ \t]{1,4}(?=[^\s-])")
_WORD: Final = re.compile(r"[a-z_.:/-]+")
_NOTHING: Final = frozenset({"false", "none", "null", "true", "undefined"})
_SCHEME: Final = re.compile(
    r"(?:bearer|basic|digest|negotiate|ntlm|token|apikey|aws4-hmac-sha256)[ \t]+"
    r"""[^\r\n"'`\\]{1,4096}""",
    re.IGNORECASE,
)
_COOKIES: Final = re.compile(r"""[^\s=;"'`\\]{1,128}=[^\r\n"'`\\]{1,4096}""")
_BEARER: Final = re.compile(r"bearer[ \t]+([a-z0-9._~+/=-]{8,4096})", re.IGNORECASE)
# ASCII: else the long s and its like are letters as well, which no base64 has.
_BASIC: Final = re.compile(
    r"basic[ \t]+([a-z0-9+/]{8,4096}={0,2})", re.IGNORECASE | re.ASCII
)
_USERINFO: Final = re.compile(r"""://([^\s/?#"'<>\\]{1,512})@""")
_CURL_USER: Final = re.compile(
    r"""[ \t](?:-u|--user)[ \t=]{0,4}["']?[^\s:"']{1,128}:([^\s"']{1,512})"""
)
_SSHPASS: Final = re.compile(
    r"""sshpass[ \t]{1,4}-p[ \t]{0,4}["']?([^\s"']{1,512})""", re.IGNORECASE
)
_NETRC: Final = re.compile(
    r"(?:machine\s{1,64}\S{1,256}|default)\s{1,64}login\s{1,64}\S{1,256}"
    r"\s{1,64}password\s{1,64}(\S{1,512})",
    re.IGNORECASE,
)
_HAS_DIGIT: Final = re.compile(r"[0-9]")
_MIN_USER_CHARS: Final = 20


def plain_name(name: str) -> str:
    """Return a name as names are compared."""
    return _NO_LETTERS.sub("", name.lower())


class NameRules:
    """Finds values by the built-in and the `extra` names. Threads may share it."""

    def __init__(self, extra: Sequence[str] = ()) -> None:
        self._extra = frozenset(map(plain_name, extra))
        words = (max(_NO_LETTERS.split(name.lower()), key=len) for name in extra)
        stems = (*_STEMS, *filter(None, words))
        self._stems = [
            (stem, re.compile(re.escape(stem.rstrip("=")) + _ASSIGNMENT))
            for stem in stems
        ]
        self.needles = Needles(map(re.escape, stems))
        """One is in each text, in lower case, that names a secret."""
        self.secret = lru_cache(maxsize=4_096)(self._secret)

    def _secret(self, name: str) -> str | None:
        """Return what a name says that its value is, or None if no secret."""
        plain = plain_name(name)
        if plain in self._extra or plain in _WHOLE:
            return plain
        if plain.endswith(_HARMLESS):
            return None
        if _UPPER_KEY.fullmatch(name) and not plain.endswith(_HARMLESS_KEY):
            return "key"
        return next((end for end in _ENDINGS if plain.endswith(end)), None)

    def names_one(self, text: str, lowered: str) -> bool:
        """Tell whether a name of a secret stands before a value in the text."""
        patterns = self._patterns(lowered)
        for pattern in patterns:
            for match in pattern.finditer(lowered):
                if self._kind(text, match):
                    return True
        return bool(patterns) and next(self._options(text), None) is not None

    def spans(self, text: str, lowered: str) -> Iterator[Span]:
        """Find values after names of secrets, in a text that is no JSON document."""
        patterns = self._patterns(lowered)
        for pattern in patterns:
            done = 0
            for match in pattern.finditer(lowered):
                kind = self._kind(text, match) if match.end() > done else None
                if kind and (span := _value(text, match, kind)):
                    done = span[1]
                    yield span
        if patterns:
            yield from self._options(text)

    def _options(self, text: str) -> Iterator[Span]:
        """Find `--password X`; a command line has no prose."""
        for match in _OPTION.finditer(text):
            kind = self.secret(match[1])
            value = kind and _unnamed_value(text, match.end())
            if kind and value and not is_folder(kind, text[value[0]]):
                yield *value, kind

    def _patterns(self, lowered: str) -> list[re.Pattern[str]]:
        if not self.needles.may_be_in(lowered):
            return []
        return [pattern for stem, pattern in self._stems if stem in lowered]

    def _kind(self, text: str, match: re.Match[str]) -> str | None:
        end = match.start("quote")
        before = text[max(0, end - _MAX_NAME_CHARS - 1) : end]
        name = _NAME_BACKWARDS.match(before[::-1])
        if name is None:
            return None
        if match["sign"] == ">" and not before[: -name.end()].endswith(("<", ":")):
            return None  # no `<password>`
        return self.secret(name[0][::-1])


def is_folder(kind: str, value: str) -> bool:
    """Tell $PWD, which is where one is, from Pwd= in a connection string."""
    return kind == "pwd" and value[:1] in {"/", "~"}


def scheme_spans(text: str, lowered: str) -> Iterator[Span]:
    """Find what stands behind `Bearer`, `curl -u` and their like, and in URLs."""
    if SCHEMES.may_be_in(lowered):
        for word, find in _SCHEMES:
            if word in lowered:
                yield from find(text)


def has_scheme(text: str, lowered: str) -> bool:
    """Tell whether `scheme_spans` finds something in the text, or may in a part."""
    if "bearer" in lowered and _BEARER.search(text):
        return True  # in a string of a document it stands alone
    return next(scheme_spans(text, lowered), None) is not None


def _bearers(text: str) -> Iterator[Span]:
    for match in _BEARER.finditer(text):
        # Among other words it may be prose, alone it is a header.
        is_alone = match.span() == (0, len(text))
        if is_alone or _HAS_DIGIT.search(match[1]):
            yield *match.span(1), "bearer"


def _basics(text: str) -> Iterator[Span]:
    for match in _BASIC.finditer(text):
        if _is_user_and_password(match[1]):
            yield *match.span(1), "basic"


def _passwords(pattern: re.Pattern[str]) -> Callable[[str], Iterator[Span]]:
    def find(text: str) -> Iterator[Span]:
        for match in pattern.finditer(text):
            yield *match.span(1), "password"

    return find


def _userinfos(text: str) -> Iterator[Span]:
    for match in _USERINFO.finditer(text):
        user, colon, _ = match[1].partition(":")
        if colon:
            yield match.start(1) + len(user) + 1, match.end(1), "password"
        elif len(user) >= _MIN_USER_CHARS and _HAS_DIGIT.search(user):
            yield *match.span(1), "token"


_SCHEMES: Final = (
    ("bearer", _bearers),
    ("basic", _basics),
    ("curl", _passwords(_CURL_USER)),
    ("sshpass", _passwords(_SSHPASS)),
    ("login", _passwords(_NETRC)),
    ("://", _userinfos),
)
SCHEMES: Final = Needles(word for word, _ in _SCHEMES)
"""One is in each text, in lower case, that `scheme_spans` finds something in."""


def _value(text: str, assignment: re.Match[str], kind: str) -> Span | None:
    at = assignment.end()
    if kind == "authorization" and (match := _SCHEME.match(text, at)):
        return *match.span(), kind
    if kind in {"cookie", "cookies"} and (match := _COOKIES.match(text, at)):
        return *match.span(), kind
    if assignment["sign"] == ">":
        element = _ELEMENT.match(text, at)
        return (*element.span(), kind) if element else None
    value = _unnamed_value(text, at)
    if value is None or is_folder(kind, text[value[0]]):
        return None
    start, end = value
    is_bare = start == at
    if is_bare and _is_prose(text[start:end], assignment["sign"]):
        return None
    return start, end, kind


def _unnamed_value(text: str, at: int) -> tuple[int, int] | None:
    """Find what stands here, in quotation marks or bare; a call is code."""
    if match := _QUOTED.match(text, at):
        return match.span(1)
    match = _BARE.match(text, at)
    if match is None or text.startswith("(", match.end()):
        return None
    return match.span()


def _is_prose(text: str, sign: str) -> bool:
    """A word alone is prose, a type or code, but for KEY=word."""
    word = text.lower()
    return bool(_WORD.fullmatch(word)) and (sign != "=" or word in _NOTHING)


def _is_user_and_password(text: str) -> bool:
    try:
        return b":" in b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return False
