r"""YAML read and written so that names stay names.

PyYAML reads YAML 1.1, in which `no` is false, `1_000` and `0x10` are numbers, and a day is a date. A parent may well be
called `no`. Here keys are text as written, the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema)
tells what a plain value is, and where the reader knows that text is meant, a value is text as written, too. What is
written here is quoted wherever one of the two versions would read something else than the text.

Only plain data is read: no tags of other languages, and no file whose anchors unfold to millions of values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import yaml

from evomerge.system.text import visible

Place: TypeAlias = tuple[str | int, ...]
"""Keys and indices from the top to a value."""

MOST_VALUES = 1_000_000
"""Most values of a file, with those that anchors repeat."""

_TAG = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (
    f"{_TAG}{name}" for name in ("null", "bool", "int", "float", "str", "merge")
)
_CORE = {
    _NULL: re.compile(r"(?:~|null|Null|NULL|)$"),
    _BOOL: re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"),
    _INT: re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"),
    _FLOAT: re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    _MERGE: re.compile(r"<<$"),
}  # fmt: skip
_YES = frozenset(("yes", "Yes", "YES", "on", "On", "ON"))
_NO = frozenset(("no", "No", "NO", "off", "Off", "OFF"))
_SPACED = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)+$")  # 1_000


class YamlError(ValueError):
    """Text that is not YAML, or no plain data; the message says where and why."""


class Inline(list[Any]):
    """A list that is written on one line: [0, 4]."""


class _Loader(yaml.SafeLoader):
    """Composes nodes; which value a plain scalar stands for is told below."""


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would not read as text, and writes repeated values in full."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(Inline, lambda to, data: to.represent_sequence(f"{_TAG}seq", data, flow_style=True))
_Dumper.add_representer(
    str,
    lambda to, text: to.represent_scalar(f"{_TAG}str", text, style='"' if visible(text, lines=True) != text else None),
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in _CORE.items():
    _Loader.add_implicit_resolver(_tag, _pattern, None)
    if _tag != _MERGE:
        _Dumper.add_implicit_resolver(_tag, _pattern, None)


def read_yaml(text: str | bytes, *, text_at: Callable[[Place], bool] | None = None, lenient: bool = False) -> Any:
    """Read one YAML document.

    Args:
        text: the text; bytes must be UTF-8, with or without a byte order mark.
        text_at: whether text is meant at a place, where a plain scalar is then text as written (only null, as the value
            of a key, is no text); None: nowhere.
        lenient: whether elsewhere the words yes, no, on and off are flags and 1_000 is a number, as in YAML 1.1.

    Returns:
        Mappings with text as keys, lists, text, numbers, flags, None. An empty document is None.

    Raises:
        YamlError: if it is not YAML, repeats a key, or is no plain data.
    """
    return _read(text, text_at, lenient, lambda loader: [loader.get_single_node()])[0]


def read_yaml_documents(
    text: str | bytes, *, text_at: Callable[[Place], bool] | None = None, lenient: bool = False
) -> list[Any]:
    """Read all YAML documents of a text, which `---` divides; see `read_yaml`.

    Raises:
        YamlError: as `read_yaml`.
    """

    def nodes(loader: _Loader) -> Iterator[yaml.Node | None]:
        while loader.check_node():
            yield loader.get_node()

    return _read(text, text_at, lenient, nodes)


def _read(
    text: str | bytes,
    text_at: Callable[[Place], bool] | None,
    lenient: bool,
    nodes: Callable[[_Loader], Iterable[yaml.Node | None]],
) -> list[Any]:
    shown = _decoded(text)
    loader = None
    try:
        loader = _Loader(shown)
        data = _Data(text_at or (lambda place: False), lenient)  # one, so that all documents share its limit of values
        return [None if node is None else data.of(node, ()) for node in nodes(loader)]
    except yaml.MarkedYAMLError as error:
        raise YamlError(_said(error, shown)) from error
    except yaml.reader.ReaderError as error:
        raise YamlError(f"the character {visible(chr(error.character))} may not stand in YAML text") from error
    except yaml.YAMLError as error:
        raise YamlError(" ".join(str(error).split())) from error
    except RecursionError:
        raise YamlError("it is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def write_yaml(data: Any) -> str:
    """Return plain data as YAML, with keys in their order; `read_yaml` and other readers give the same data back."""
    written = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return visible(written, lines=True)  # what is unseen stands in double quotes, where its escape means the same


def _decoded(text: str | bytes) -> str:
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise YamlError(
                f"it is not UTF-8 text (the byte 0x{text[error.start]:02x} at {error.start}); save it as UTF-8"
            ) from error
    return text.removeprefix("\ufeff")


class _Data:
    """Makes data of nodes."""

    def __init__(self, text_at: Callable[[Place], bool], lenient: bool) -> None:
        self._text_at = text_at
        self._lenient = lenient
        self._n = 0
        self._open: set[int] = set()  # nodes that are being made: an anchor inside of itself is never ready

    def of(self, node: yaml.Node, place: Place) -> Any:
        self._n += 1
        if self._n > MOST_VALUES:
            raise YamlError(f"its anchors unfold to more than {MOST_VALUES:,} values")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._open:
            raise YamlError(f"{_at(node)}: an anchor refers to itself")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                _check_tag(node, "seq")
                return [self.of(one, (*place, i)) for i, one in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            _check_tag(node, "map")
            return self._mapping(node, place)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for one in reversed(list(self._merged(value, place))):
                    merged.update(one)
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError(f"{_at(key)}: a key must be a word, not a list or a mapping")
            if not key.tag.startswith(_TAG):
                _check_tag(key, "str")
            name, line = key.value, key.start_mark.line + 1
            if name in own:
                raise YamlError(f"line {line}: the key {visible(name)!r} stands here again, after line {lines[name]}")
            lines[name] = line
            own[name] = self.of(value, (*place, name))
        return {**merged, **own}

    def _merged(self, node: yaml.Node, place: Place) -> Iterator[dict[str, Any]]:
        for one in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(one, yaml.MappingNode):
                raise YamlError(f"{_at(node)}: `<<` takes a mapping, or a list of mappings")
            yield self.of(one, place)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        value, tag = node.value, node.tag
        if self._text_at(place) and tag in (_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE):
            of_key = not place or isinstance(place[-1], str)
            return None if tag == _NULL and (of_key or not value) else value
        if self._lenient and node.style is None and tag == _STR:
            if value in _YES or value in _NO:
                return value in _YES
            if _SPACED.match(value):
                tag, value = _INT, value.replace("_", "")
        if tag in (_STR, _MERGE):
            return value
        if tag in _CORE and not _CORE[tag].match(value):  # as in !!int "x"
            raise YamlError(f"{_at(node)}: {visible(value)!r} is no {tag.removeprefix(_TAG)}")
        if tag == _NULL:
            return None
        if tag == _BOOL:
            return value.lower() == "true"
        if tag == _INT:
            return self._whole(node, value)
        if tag == _FLOAT:
            return float(value.lower().replace(".inf", "inf").replace(".nan", "nan"))
        _check_tag(node, "str")
        return value

    @staticmethod
    def _whole(node: yaml.Node, value: str) -> int:
        try:
            return int(value, 0 if value[:2] in ("0x", "0o") else 10)
        except ValueError:  # Python reads no more than 4,300 digits
            raise YamlError(f"{_at(node)}: a number of {len(value):,} digits") from None


def _check_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != f"{_TAG}{kind}":
        tag = visible(str(node.tag).replace(_TAG, "!!"))
        raise YamlError(f"{_at(node)}: the tag {tag} is not read; only plain YAML is, such as text, numbers and lists")


def _at(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"


def _said(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return where the text is no YAML and why, with the line itself."""
    mark = error.problem_mark or error.context_mark
    reason = visible(error.problem or error.context or "it cannot be read")
    if "'\\t'" in reason:
        reason = "a tab stands here; indent with spaces"
    if "found another document" in reason or "but found another" in reason:
        reason = "a second document begins here (---), but one is read"
    if mark is None:
        return reason
    lines = text.splitlines()
    shown = lines[mark.line].strip() if mark.line < len(lines) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {reason}" + (
        f" (`{visible(shown, most=80)}`)" if shown else ""
    )
