"""Cues: a few letters that stand in whatever a pattern matches, so that most texts need not be searched with it.

A text without any of a pattern's cues holds no match, which is quicker to see than to search for by a factor of ten.
"""

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    from re import _constants, _parser  # type: ignore[attr-defined]
else:
    import sre_constants as _constants
    import sre_parse as _parser

# Words that most messages hold: a cue made of them alone spares nothing.
_COMMON_WORDS = """
a about all am and any are as at be been but can cant do dont feel for from get go going had has
have he her him his how i if im in is it its just know like me more my never no not of off on one or
out over own really she so some the them they this time to too up want was we what when will with
would you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def cues_of(pattern: re.Pattern[str]) -> tuple[str, ...]:
    """Return strings of which every match of a case-sensitive pattern holds at least one; none where none are known.

    They are read off Python's own parse of the pattern: of the parts that a match must have, the most telling one.

    >>> cues_of(re.compile(r"\\b(?:(?:want|need) to di(?:e|sappear)|no tomorrow)"))
    ('no tomorrow', 'to di')
    """
    if pattern.flags & re.IGNORECASE:
        return ()
    found = _required(_parser.parse(pattern.pattern)) or frozenset()
    return tuple(sorted(found)) if _telling(found)[0] else ()


def _required(parts: Any) -> frozenset[str] | None:
    """Return the most telling set of strings of which a sequence of parts must hold one; None if there is none."""
    sets: list[frozenset[str]] = []
    letters = ""
    for operation, argument in [*parts, (None, None)]:
        if operation is _constants.LITERAL:
            letters += chr(argument)
            continue
        if letters:
            sets.append(frozenset([letters]))
            letters = ""
        found = _of_part(operation, argument)
        if found:
            sets.append(found)
    return max(sets, key=_telling, default=None)


def _of_part(operation: Any, argument: Any) -> frozenset[str] | None:
    if operation is _constants.SUBPATTERN:
        return _required(argument[-1])
    if operation is _constants.MAX_REPEAT and argument[0] > 0:
        return _required(argument[2])
    if operation is _constants.BRANCH:
        branches = [_required(branch) for branch in argument[1]]
        return None if None in branches else frozenset().union(*branches)  # type: ignore[arg-type]
    return None


def _telling(cues: frozenset[str]) -> tuple[int, int]:
    """Rank a set by its least telling string, in letters that are not of common words, and by how few they are."""
    letters = (sum(len(word) for word in cue.split() if word not in _COMMON) for cue in cues)
    return min(letters, default=0), -len(cues)
