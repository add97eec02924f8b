"""The kinds of values that keys of the configuration take, and how one key is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

    from evomerge.system.registry import Registry

UNKNOWN = "unknown_name"
"""The type of pydantic's error for an unknown word; its context has the known words as `known`."""


def _text(value: Any) -> Any:
    """Return a number as text; a flag is not what was written: other readers of YAML make false of `no`."""
    return value if value is None or isinstance(value, (bool, list, tuple, Mapping)) else str(value)


SPEED, SHOWN, PLACE, LIMIT, EFFECT = "speed", "shown", "place", "limit", "effect"
"""Why a key may be given another value when a run is continued: it concerns speed only; it names or shows something; it
is where something stands whose content is compared instead; it is a limit of the budget; its effect is compared."""

SAYS = "says"
"""The type of pydantic's error whose context has, as `text`, what the message says after the key."""

Count: TypeAlias = Annotated[int, Field(strict=True, ge=1)]
Natural: TypeAlias = Annotated[int, Field(strict=True, ge=0)]
Number: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0.0)]
Text: TypeAlias = Annotated[str, BeforeValidator(_text)]
Switch: TypeAlias = bool
"""A flag; yes, no, on and off are accepted too, which some readers of YAML leave as words."""

_Built = TypeVar("_Built")


def key(
    default: Any,
    help: str,
    *,
    must: str | None = None,
    missing: str | None = None,
    null: bool = False,
    json: Mapping[str, Any] | None = None,
    validate: bool = False,
    at_resume: str | None = None,
) -> Any:
    """Declare one key; its type and range are those of the annotation.

    Args:
        default: the value if the key is left out; `...`: the key must be given.
        help: one line of help.
        must: what a value must do, in the words that follow "must" in a message; None: made from type and range.
        missing: what to do if the key must be given and is not; None: what `must` says.
        null: whether null has a meaning of its own; if not, it is the same as leaving the key out.
        json: the JSON schema, if the annotation cannot say it.
        validate: whether validators see the default too, because it depends on other keys.
        at_resume: why another value may be given when a run is continued (`SPEED`, `SHOWN`, `PLACE`, `LIMIT` or
            `EFFECT`); None: the value matters to the results, so that it may not.
    """
    extra: dict[str, Any] = {
        "x-must": must,
        "x-missing": missing,
        "x-null": null or None,
        "x-at-resume": at_resume,
        **(json or {}),
    }
    said = {name: one for name, one in extra.items() if one is not None}
    return Field(default, description=help, json_schema_extra=said, validate_default=validate)


def section(kind: Callable[[], Any], help: str) -> Any:
    """Declare a key that holds keys of its own; if it is left out, they have their defaults."""
    return Field(default_factory=kind, description=help)


class Section(BaseModel):
    """Keys that stand together; frozen. A key that is not declared is a mistake.

    Attributes:
        WORD: the key for which a bare word stands, as in `execution: ray`; None: the value must be a mapping.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

    WORD: ClassVar[str | None] = None

    @classmethod
    def default(cls, name: str) -> Any:
        """Return the default of a key, for functions that offer the same setting without a configuration."""
        return cls.model_fields[name].default

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        """Return the data as a mapping: a bare word becomes its key, and null values are left out."""
        if isinstance(data, str) and cls.WORD is not None:
            data = {cls.WORD: data}
        if not isinstance(data, Mapping):
            return data
        return {str(name): value for name, value in data.items() if value is not None or cls._keeps_null(str(name))}

    @classmethod
    def _keeps_null(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        extra = None if field is None else field.json_schema_extra
        return isinstance(extra, dict) and bool(extra.get("x-null"))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler(core)
        if cls.WORD is not None:
            handler.resolve_ref_schema(schema)["x-word"] = cls.WORD
        return schema


@dataclass(frozen=True)
class MadeOf:
    """Annotates a value whose class belongs to another part: the given keys declare it, and their `build` makes it."""

    keys: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Read the keys, then build."""
        build: Callable[[Any], Any] = lambda read: read.build()  # noqa: E731
        return core_schema.no_info_after_validator_function(build, handler.generate_schema(self.keys))


class Words:
    """One of a few words, each with a line of help; annotates a `str`."""

    def __init__(self, lines: Mapping[str, str]) -> None:
        self.lines = dict(lines)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Accept the words only."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """List the words."""
        return {"type": "string", "enum": list(self.lines), "x-lines": dict(self.lines)}

    def _check(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.lines:
            raise PydanticCustomError(UNKNOWN, "unknown", {"known": list(self.lines)})
        return value


@dataclass(frozen=True)
class NameIn:
    """The name of something in a registry; annotates a `str`.

    Attributes:
        registry: returns the registry; it is called no sooner than needed, since it may import a part.
        checked: whether an unknown name is a mistake here; False: the part that uses the name reports it, in detail.
    """

    registry: Callable[[], Registry[Any]]
    checked: bool = True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Accept names in the registry; names from a user's file ("my_file.py:name") are not imported here."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Name the registry rather than its content, which depends on the installed packages."""
        return {"type": "string", "x-registry": self.registry.__name__}

    def _check(self, value: Any) -> str:
        named = isinstance(value, str) and value != ""
        if not named or (self.checked and ":" not in value and self.registry().problems(value)):
            raise PydanticCustomError(UNKNOWN, "unknown", {"known": list(self.registry().names)})
        return str(value)
