"""What licences ask of a model that is made of several, and which of them cannot be kept at once.

A merge is a work derived from all of its parents, so the terms of each hold for it. This module knows kinds of terms,
found by the form of an identifier where it has one (`cc-by-nc-sa-4.0`, `agpl-3.0`), and says what follows from them. It
is no legal advice, and the card says so.

Identifiers: https://huggingface.co/docs/hub/repositories-licenses. Which licences of Creative Commons go together:
https://creativecommons.org/faq (the table of compatible licences). GPL with others:
https://www.gnu.org/licenses/license-list.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from evomerge.system.text import with_and

_PERMISSIVE = re.compile(
    r"apache-2\.0|mit|bsd(-.*)?|isc|zlib|unlicense|wtfpl|cc0-1\.0|pddl|0bsd|ncsa|postgresql|bsl-1\.0|cc-by-[\d.]+|ms-pl"
    r"|artistic-2\.0|afl-3\.0|odc-by|cdla-permissive-[\d.]+|openmdw(-.*)?|ecl-2\.0|etalab-2\.0"
)
_CREATIVE_COMMONS = re.compile(r"cc-by((?:-(?:nc|nd|sa))*)-[\d.]+")
_GPL = re.compile(r"(a|l)?gpl(-[\d.]+)?")
_NON_COMMERCIAL = re.compile(
    r"non-?commercial|research|\bnc\b|mnpl|\bmrl\b|academic|cc-by-nc|evaluation-only", re.IGNORECASE
)
_NO_OTHER_MODEL = ("llama2", "llama3")
"""Community licences by which their model may improve no other language model (Llama 2 and Llama 3, section 1.b.v)."""

_ACCEPTED = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc
cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1
eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c
ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa
unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
llama3.2 llama3.3 llama4 grok2-community gemma
"""

HUB_LICENCES = frozenset(_ACCEPTED.split())
"""The identifiers that the Hub takes; a card with another one is refused when it is uploaded, so that is a name."""


@dataclass(frozen=True)
class Terms:
    """What a licence asks, as far as its identifier and name say.

    Attributes:
        name: what it is called in messages.
        permissive: whether it asks for its notice alone, so that a merge may have other terms.
        non_commercial: whether it forbids commercial use.
        no_derivatives: whether it forbids to share what is made of the work.
        share_alike: the family under whose terms a derived work must be shared: "gpl", "cc-by-sa" …; None: none.
        own: whether it has terms of its own that must be handed on, as community and use-based licences have, and
            those that this module does not know.
    """

    name: str
    permissive: bool = False
    non_commercial: bool = False
    no_derivatives: bool = False
    share_alike: str | None = None
    own: bool = False


def terms_of(identifier: str, name: str | None = None) -> Terms:
    """Return what a licence asks.

    Args:
        identifier: as on the Hub; "other" for one that has a name alone.
        name: its name where the identifier is "other".
    """
    if identifier == "other":
        name = name or "other"
        return Terms(name, own=True, non_commercial=_NON_COMMERCIAL.search(name) is not None)
    if _PERMISSIVE.fullmatch(identifier):
        return Terms(identifier, permissive=True)
    commons = _CREATIVE_COMMONS.fullmatch(identifier)
    if commons is not None:
        parts = commons[1].split("-")
        return Terms(
            identifier,
            non_commercial="nc" in parts,
            no_derivatives="nd" in parts,
            share_alike=("cc-by-nc-sa" if "nc" in parts else "cc-by-sa") if "sa" in parts else None,
        )
    if _GPL.fullmatch(identifier):
        return Terms(identifier, share_alike="gpl")
    if identifier in ("mpl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "osl-3.0", "odbl", "gfdl"):
        return Terms(identifier, share_alike=identifier)
    return Terms(identifier, own=True, non_commercial=_NON_COMMERCIAL.search(identifier) is not None)


def governing(identifiers: Iterable[str]) -> str | None:
    """Return the one licence that a work derived from several may have; None: none covers them all.

    Permissive licences give way to the only other one. Of Creative Commons' non-commercial ones the one that asks for
    more stands for both, and the AGPL 3 for the GPL 3 (their section 13).
    """
    asked = {one: terms_of(one) for one in identifiers}
    others = {one for one, terms in asked.items() if not terms.permissive}
    if len(asked) == 1:
        return next(iter(asked))
    if not others or conflicts(asked.values()):
        return None
    if len(others) == 1:
        return next(iter(others))
    if others == {"gpl-3.0", "agpl-3.0"}:
        return "agpl-3.0"
    if all(_CREATIVE_COMMONS.fullmatch(one) for one in others):
        kept = [one for one in others if one.startswith("cc-by-nc-sa")]
        return kept[0] if len(kept) == 1 else None
    return None


def conflicts(terms: Iterable[Terms]) -> list[str]:
    """Return a sentence for each pair of licences that cannot be kept at once, and each that allows no merge."""
    unique = {one.name: one for one in terms}
    found = [
        f"{one.name} does not allow sharing what is made of the work, and a merge is" for one in unique.values()
        if one.no_derivatives
    ]  # fmt: skip
    for one, other in combinations(unique.values(), 2):
        found += _pair(one, other)
        found += _pair(other, one)
    return found


def obligations(terms: Iterable[Terms]) -> list[str]:
    """Return a sentence for each thing that the licences ask of a merge, or of those who use it."""
    unique = list({one.name: one for one in terms}.values())
    closed = [one.name for one in unique if one.non_commercial]
    kept = [one.name for one in unique if one.own]
    alike = [one.name for one in unique if one.share_alike is not None]
    found = []
    if closed:
        found.append(f"{with_and(closed)} {_verb(closed, 'forbid')} commercial use, so the merge is not for it either")
    if alike:
        found.append(
            f"{with_and(alike)} {_verb(alike, 'ask')} that what is made of the work be shared under the same terms"
        )
    if kept:
        found.append(f"The terms of {with_and(kept)} on use, names and notices go along with the merge: read them")
    return found


def _pair(one: Terms, other: Terms) -> Iterator[str]:
    """Yield why two licences, taken in this order, cannot be kept at once."""
    if one.share_alike is not None:
        if other.share_alike is not None and one.share_alike != other.share_alike and one.name < other.name:
            yield f"{one.name} and {other.name} each ask that the whole be shared under their own terms"
        elif other.non_commercial and one.share_alike != "cc-by-nc-sa":
            yield f"{one.name} allows no further restrictions, and {other.name} forbids commercial use"
        elif other.own and one.share_alike in ("gpl", "cc-by-sa", "cc-by-nc-sa"):
            yield f"{one.name} allows no further restrictions, and {other.name} has terms of its own"
    if one.name == "gpl-2.0" and other.name in ("apache-2.0", "gpl-3.0", "agpl-3.0", "lgpl-3.0"):
        yield f"gpl-2.0 (where it does not say “or later”) cannot be combined with {other.name}"
    if one.name in _NO_OTHER_MODEL and not other.permissive and not other.name.startswith("llama"):
        yield f"{one.name} forbids using its model to improve another language model, and {other.name} covers another"


def _verb(names: list[str], verb: str) -> str:
    return f"{verb}s" if len(names) == 1 else verb
