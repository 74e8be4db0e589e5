"""Which licence a text is or names, as an SPDX identifier, and which licences a policy takes.

Licences are told by short phrases that one family has and its neighbours lack; the texts themselves are not needed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from demiurgic_jax.errors import UserError

UNKNOWN = "unknown"

_SPDX_LINE = re.compile(r"SPDX-License-Identifier:\s*([^\n]+)", re.IGNORECASE)
_SPDX_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:-]*")
# Where the one who licenses speaks; further down a text may quote the licences of others.
_HEAD = 3000
# Of several licences, the reader's choice.
_CHOICE = re.compile("choose between|dual(?:ly)? licen[cs]ed|either of the following licen[cs]es|under either of")
_NOT_WORDS = re.compile(r"[^a-z0-9.]+")

# Phrases of normalised text (small letters and digits, single blanks). A licence is recognised where all of `present`
# occur and none of `absent` does; of several, the one that begins first in the text. "A|B" is either.
_Rule = tuple[str, tuple[str, ...], tuple[str, ...]]
_GPL = "gnu general public licen[cs]e"
_LESSER = "gnu (?:lesser|library) general public licen[cs]e"
_BSD_START = "redistribution and use in source and binary forms|redistributions of source code must retain"
_FEE = r"permission to use copy modify and(?: or)? distribute this software(?: and its documentation)? for any purpose"
_RULES: tuple[_Rule, ...] = (
    ("AGPL-3.0", ("gnu affero general public licen[cs]e(?: as published| v(?:ersion|\\.)? ?3|.{0,200}version 3)",), ()),
    ("LGPL-2.1", (_LESSER + "(?:.{0,120}version 2\\.1| v?2\\.1)",), ()),
    ("LGPL-3.0", (_LESSER + "(?:.{0,120}version 3| v?3)",), ()),
    ("LGPL-2.0", (_LESSER + "(?:.{0,120}version 2\\b| v?2\\b)",), ()),
    ("GPL-3.0", (_GPL + "(?:.{0,120}?version 3| v?3|.{0,8}gplv3)",), ()),
    ("GPL-2.0", (_GPL + "(?:.{0,120}?version 2| v?2|.{0,8}gplv2)",), ()),
    ("GPL-1.0", (_GPL + ".{0,120}?version 1",), ()),
    ("GFDL-1.3", ("gnu free documentation license.{0,60}1\\.3",), ()),
    ("GFDL-1.2", ("gnu free documentation license.{0,60}1\\.2",), ()),
    ("Apache-2.0", ("apache (?:software )?licen[cs]e.{0,30}?(?:version |v)?2(?:\\.0)?\\b",), ()),
    ("MPL-2.0", ("mozilla public licen[cs]e.{0,20}2\\.0",), ()),
    ("MPL-1.1", ("mozilla public licen[cs]e.{0,20}1\\.1",), ()),
    ("EPL-2.0", ("eclipse public licen[cs]e.{0,20}2\\.0",), ()),
    ("EPL-1.0", ("eclipse public licen[cs]e.{0,20}1\\.0",), ()),
    ("CDDL-1.0", ("common development and distribution licen[cs]e",), ()),
    ("EUPL-1.2", ("european union public licen[cs]e.{0,20}1\\.2",), ()),
    ("BSL-1.0", ("boost software licen[cs]e|free of charge to any person or organization obtaining a copy",), ()),
    ("Artistic-2.0", ("artistic licen[cs]e.{0,8}2\\.0",), ()),
    ("Artistic-1.0", ("artistic licen[cs]e",), ("artistic licen[cs]e.{0,8}2\\.0",)),
    ("CC0-1.0", ("cc0 1\\.0|creative commons.{0,20}cc0",), ()),
    ("CC-BY-SA-4.0", ("attribution sharealike 4\\.0",), ()),
    ("CC-BY-4.0", ("attribution 4\\.0 international|creative commons attribution 4\\.0",), ()),
    ("SSPL-1.0", ("server side public licen[cs]e",), ()),
    ("BUSL-1.1", ("business source licen[cs]e",), ()),
    ("Elastic-2.0", ("elastic licen[cs]e 2\\.0",), ()),
    ("MS-PL", ("microsoft public licen[cs]e",), ()),
    ("AFL-3.0", ("academic free licen[cs]e.{0,12}3\\.0",), ()),
    ("OFL-1.1", ("sil open font licen[cs]e",), ()),
    ("BlueOak-1.0.0", ("blue oak model licen[cs]e",), ()),
    ("ZPL-2.1", ("zope public licen[cs]e.{0,20}2\\.1",), ()),
    ("PSF-2.0", ("psf licen[cs]e|python software foundation licen[cs]e",), ()),
    ("Unlicense", ("free and unencumbered software released into the public domain",), ()),
    ("WTFPL", ("do what the fuck you want to",), ()),
    ("NCSA", ("university of illinois|ncsa open source", "permission is hereby granted free of charge"), ()),
    ("MIT-0", ("permission is hereby granted free of charge to any person",), ("subject to the following conditions",)),
    ("MIT", ("permission is hereby granted free of charge to any person", "subject to the following conditions"),
     ("person or organization obtaining", "redistributions of source code must retain the above copyright notice this"
      " list of conditions and the following disclaimers")),
    ("BSD-4-Clause", (_BSD_START, "all advertising materials mentioning"), ()),
    ("BSD-3-Clause", (_BSD_START, "neither the name|the names? of .{0,80}may not be used to endorse|not be used to"
     " endorse or promote"), ("all advertising materials mentioning", "permission is hereby granted free of charge")),
    ("BSD-2-Clause", (_BSD_START,), ("neither the name", "be used to endorse", "all advertising materials mentioning",
     "permission is hereby granted free of charge")),
    ("Zlib", ("altered source versions must be plainly marked",), ()),
    ("0BSD", (_FEE + " with or without fee is hereby granted",), (_FEE + " .{0,60}provided that",)),
    ("ISC", (_FEE + " with or without fee is hereby granted provided that",), ()),
    ("HPND", (_FEE + "(?! with or without fee is hereby granted)",), ()),
    ("PostgreSQL", ("postgresql licen[cs]e",), ()),
    ("Ruby", ("ruby.{0,40}copyrighted free software",), ()),
    # Short notices, as heads of files have them.
    ("MIT", ("(?:under|licen[cs]e is|licen[cs]ed?|licen[cs]e) (?:the |terms of the )*(?:mit|expat) ?(?:licen[cs]e|$)"
             "|^.{0,20}mit licen[cs]e|licen[cs]e mit\\b",), ()),
    ("ISC", ("^.{0,20}isc licen[cs]e|under the isc licen[cs]e|licen[cs]e isc\\b",), ()),
    ("BSD-3-Clause", ("bsd 3 clause|3 clause bsd|new bsd licen[cs]e|modified bsd licen[cs]e|bsd style licen[cs]e"
                      "|licen[cs]e bsd\\b|under the bsd licen[cs]e",), (_BSD_START,)),
    ("BSD-2-Clause", ("bsd 2 clause|2 clause bsd|simplified bsd licen[cs]e",), (_BSD_START,)),
    ("LGPL-2.1", ("\\blgpl ?v?2\\.1",), ()),
    ("LGPL-3.0", ("\\blgpl ?v?3",), ()),
    ("AGPL-3.0", ("\\bagpl",), ()),
    ("GPL-2.0", ("\\bgpl ?v?2",), ()),
    ("GPL-3.0", ("\\bgpl ?v?3|" + _GPL,), ()),
)  # fmt: skip
_COMPILED = tuple(
    (name, tuple(map(re.compile, present)), tuple(map(re.compile, absent))) for name, present, absent in _RULES
)

# Licences that ask for attribution at most (the lists of SPDX, the Blue Oak Council and The Stack agree on these).
PERMISSIVE = frozenset(
    [
        "0BSD", "AFL-2.1", "AFL-3.0", "Apache-1.1", "Apache-2.0", "Artistic-2.0", "BlueOak-1.0.0", "BSD-1-Clause",
        "BSD-2-Clause", "BSD-2-Clause-Patent", "BSD-3-Clause", "BSD-3-Clause-Clear", "BSD-3-Clause-LBNL",
        "BSL-1.0", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "curl", "ECL-2.0", "FTL", "HPND", "ICU", "Intel", "ISC",
        "JSON", "libpng", "libtiff", "MIT", "MIT-0", "MIT-CMU", "MIT-Modern-Variant", "MS-PL", "MulanPSL-2.0",
        "NCSA", "OFL-1.1", "OLDAP-2.8", "OpenSSL", "PHP-3.01", "PostgreSQL", "PSF-2.0", "Python-2.0",
        "Python-2.0.1", "Ruby", "TCL", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "UPL-1.0", "Vim", "W3C",
        "WTFPL", "X11", "Xnet", "Zlib", "ZPL-2.0", "ZPL-2.1",
    ]
)  # fmt: skip
_DEPRECATED = re.compile(r"-(?:only|or-later)$|\+$")


def detect_licence(text: str) -> str | None:
    """The SPDX identifier of the licence that `text` is, or that it names (a notice at the head of a file); an SPDX
    line's whole expression where it has one; None where nothing is recognised."""
    line = _SPDX_LINE.search(text, 0, _HEAD)
    if line:
        expression = re.sub(r"\s*(?:\*/|-->|\*\)|\"\"\"|''').*$", "", line[1]).strip(" \t'\".,;")
        return _canonical(expression) or None
    words = _NOT_WORDS.sub(" ", text.lower())
    words = re.sub(r"\.(?= |$)|(?<= )\.", "", words).strip()
    words = re.sub(r" +", " ", words)
    named: list[tuple[int, int, str]] = []
    for rank, (name, present, absent) in enumerate(_COMPILED):
        found = [pattern.search(words) for pattern in present]
        if all(found) and not any(pattern.search(words) for pattern in absent):
            named.append((min(match.start() for match in found if match), rank, name))
    if len(named) > 1 and len(words) < _HEAD and _CHOICE.search(words):
        return " OR ".join(dict.fromkeys(name for _, _, name in sorted(named)))
    return min(named)[2] if named else None


def licence_names(expression: str) -> list[str]:
    """The licences in an SPDX expression, without operators, exceptions and `-only`, `-or-later`, `+`."""
    plain = re.sub(r"\s+WITH\s+\S+", "", expression, flags=re.IGNORECASE)
    return [
        _DEPRECATED.sub("", term) for term in _SPDX_TERM.findall(plain) if term.upper() not in ("OR", "AND", "WITH")
    ]


@dataclass(frozen=True)
class LicencePolicy:
    """Which code may be used. `name` "permissive" takes the licences of PERMISSIVE, "listed" those of `allow` alone,
    "any" every one, even none. `allow` and `deny` name SPDX identifiers besides, and `deny` has the last word.

    Of an expression, `A OR B` is taken where either is, `A AND B` where both are.
    """

    name: Literal["permissive", "listed", "any"] = "permissive"
    allow: Sequence[str] = ()
    deny: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.name not in ("permissive", "listed", "any"):
            raise UserError(f"licence policy {self.name!r} is unknown: choose permissive, listed or any")
        if self.name == "listed" and not self.allow:
            raise UserError("licence policy 'listed' takes nothing: name SPDX identifiers in allow")

    def refusal(self, licence: str) -> str | None:
        """Why code under `licence` (an SPDX expression, or "unknown") is not used; None where it is."""
        if self._takes(licence):
            return None
        return "licence unknown" if licence == UNKNOWN else f"licence {licence}"

    def _takes(self, expression: str) -> bool:
        alternatives = re.split(r"\s+OR\s+", re.sub(r"[()]", " ", expression), flags=re.IGNORECASE)
        if re.search(r"\([^()]*\bOR\b[^()]*\)\s*AND|AND\s*\([^()]*\bOR\b", expression, re.IGNORECASE):
            alternatives = [expression]  # (A OR B) AND C: all of them must be taken, which is never too much
        return any(all(map(self._takes_one, names)) for names in map(licence_names, alternatives) if names)

    def _takes_one(self, name: str) -> bool:
        known = {each.lower() for each in self.deny}
        if name.lower() in known:
            return False
        if self.name == "any" or name.lower() in {each.lower() for each in self.allow}:
            return True
        return self.name == "permissive" and name.lower() in _SPELLED


_SPELLED = {name.lower(): name for name in PERMISSIVE}


def canonical_name(name: str) -> str:
    """A permissive licence's identifier as SPDX spells it; any other name as it is."""
    return _SPELLED.get(name.lower(), name)


def _canonical(expression: str) -> str:
    """Of an SPDX line, the part that is an expression."""
    match = re.match(
        r"\(?[A-Za-z0-9.+:-]+\)?(?:\s+(?:OR|AND|WITH)\s+\(?[A-Za-z0-9.+:-]+\)?)*", expression, re.IGNORECASE
    )
    return match[0] if match else ""
