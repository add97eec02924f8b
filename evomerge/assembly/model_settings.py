"""What belongs to the models of a search besides their weights: is it usable, and where do the models disagree?

Each parent is scored with its own tokenizer, chat template, generation config and config.json. The merge gets them from
the models that the configuration names; what the others say in another way is told before the search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from evomerge.assembly.spaces import baselines
from evomerge.config.schema import SearchConfig
from evomerge.errors import CheckpointError
from evomerge.evaluation.chat import Chat
from evomerge.evaluation.engines.decoding import refusal
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.quiet import quiet
from evomerge.genome.space import Space
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.settings import settings_alike
from evomerge.merge.live.settings import GenerationConfigs, Tokenizers
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, Recipe, TokenizerBuild
from evomerge.system.text import visible, with_and

log = logging.getLogger(__name__)

THE_MERGE = None
"""Stands for the merge among the names of models, since a parent may have any name, "the merge" too."""

Who: TypeAlias = str | None
"""The name of a baseline, or the merge."""

_UNTOLD = ("dtype", "torch_dtype", "transformers_version", "architectures", "auto_map", "use_cache", "layer_types")
"""Keys of config.json that say nothing about how a model is used, or follow its depth."""


@dataclass(frozen=True)
class ModelSettings:
    """The settings of every model that a search scores.

    Attributes:
        tokenizers: each baseline, and the merge, to its tokenizer.
        generation: the same to its generation config.
        vocabulary: the same to the number of its embedding rows.
        configs: the same to its config.json.
        problems: what cannot be used, one sentence each.
        notes: what the parents and the base say differently, one sentence each, with whose word the merge gets.
    """

    tokenizers: Mapping[Who, Any]
    generation: Mapping[Who, Any]
    vocabulary: Mapping[Who, int]
    configs: Mapping[Who, Any]
    problems: Sequence[str]
    notes: Sequence[str]

    def with_prompts(self, harness: LmHarness) -> tuple[list[str], list[str]]:
        """Try chat templates on prompts, generation configs, and what tasks ask of answers.

        Returns:
            What fails, and what the user should know, one sentence each.
        """
        problems, notes = harness.tried_templates([(_said(who), one) for who, one in self.tokenizers.items()])
        if not harness.generates:
            return problems, notes
        from lm_eval.models.utils import resolve_max_length

        problems += harness.generation_problems(
            [(_said(who), int(resolve_max_length(one, self.tokenizers.get(who)))) for who, one in self.configs.items()]
        )
        refused: dict[str, list[str]] = {}
        for who, config in self.generation.items():
            with quiet():
                reason = refusal(config, self.vocabulary[who])
            if reason is not None:
                refused.setdefault(reason, []).append(_said(who))
        problems += [
            f"transformers cannot generate with the generation config of {with_and(names)}: "
            f"{visible(reason, most=300)}; mend its generation_config.json"
            for reason, names in refused.items()
        ]
        return problems, notes


def read_settings(config: SearchConfig, sources: Sources, spaces: Sequence[Space]) -> ModelSettings:
    """Read tokenizers, generation configs and config.json of all models of a search; no weights are read.

    Args:
        config: the configuration.
        sources: the opened models, which fit together.
        spaces: the space of each stage.
    """
    scored: dict[Who, Recipe] = dict(baselines(config, sources).items())
    if spaces:
        scored[THE_MERGE] = _merge_of(spaces[0])
    tokenizers, generation = Tokenizers(), GenerationConfigs()
    problems: list[str] = []
    found_tokenizers = _read(scored, lambda recipe: tokenizers.of(sources.tokenizer_of(recipe)), problems)
    found_generation = _read(scored, lambda recipe: generation.of(sources.generation_of(recipe)), problems)
    for recipe in scored.values() if not problems else ():
        try:
            sources.check_tokens(recipe)
        except CheckpointError as error:
            problems += str(error).splitlines()
    if config.evaluation.chat.template:
        problems += _without_template(config, found_tokenizers)
    notes: list[str] = []
    if THE_MERGE in scored and not problems:
        for kind in _kinds(sources, tokenizers, generation):
            notes += _conflicts(config, kind, scored[THE_MERGE])
    rows = {who: _vocabulary(_donor(recipe, sources)) for who, recipe in scored.items()}
    configs = {who: _donor(recipe, sources).config for who, recipe in scored.items()}
    return ModelSettings(found_tokenizers, found_generation, rows, configs, list(dict.fromkeys(problems)), notes)


@dataclass(frozen=True)
class _Kind:
    """Settings that one model lends together.

    Attributes:
        name: of the key below `models` that names the lender, where there is one.
        lender: returns the model that lends a recipe these settings.
        folder: returns the folder in which they are.
        values: returns them by name, as they are told.
    """

    name: str
    lender: Callable[[Recipe], OpenModel]
    folder: Callable[[OpenModel], Path]
    values: Callable[[OpenModel], dict[str, Any]]


def _kinds(sources: Sources, tokenizers: Tokenizers, generation: GenerationConfigs) -> tuple[_Kind, ...]:
    return (
        _Kind(
            "tokenizer",
            sources.tokenizer_of,
            lambda one: one.tokenizer_folder,
            lambda one: _of_tokenizer(tokenizers.of(one)),
        ),
        _Kind(
            "generation_config",
            sources.generation_of,
            lambda one: one.generation_folder,
            lambda one: _of_generation(generation.of(one)),
        ),
        _Kind(
            "config",
            lambda recipe: _donor(recipe, sources),
            lambda one: one.folder,
            # Of what stands beside the language part there is one model alone, and nothing to choose.
            lambda one: _of_config(one.architecture.language.config if one.has_other_parts else one.config),
        ),
    )


def template_lacking(chat: Chat, recipe: Recipe, sources: Sources) -> str | None:
    """Return what a model's tokenizer lacks to be asked as `evaluation.chat` says, in words that follow "has"."""
    return chat.lacking(Tokenizers().of(sources.tokenizer_of(recipe))) if chat.template else None


def _merge_of(space: Space) -> Recipe:
    return space.decode(space.genome(space.start))


def _read(recipes: Mapping[Who, Recipe], read: Callable[[Recipe], Any], problems: list[str]) -> dict[Who, Any]:
    found: dict[Who, Any] = {}
    for who, recipe in recipes.items():
        try:
            found[who] = read(recipe)
        except CheckpointError as error:
            problems.append(str(error))
    return found


def _tried(values: Callable[[OpenModel], dict[str, Any]], opened: OpenModel) -> dict[str, Any] | None:
    """Return a model's settings; None if they cannot be read, since a base that is not scored need not have any."""
    try:
        return values(opened)
    except Exception as error:  # a tokenizer of its own may raise anything; this is for a note only
        log.debug("no settings of %s: %s", opened.label, error)
        return None


def _donor(recipe: Recipe, sources: Sources) -> OpenModel:
    if recipe.path and recipe.builds_vocabulary:
        return sources.compatible_parents(recipe).first
    return sources.like(recipe.parents[0].source if recipe.path else recipe)


def _vocabulary(opened: OpenModel) -> int:
    return int(getattr(opened.config.get_text_config(decoder=True), "vocab_size", 0) or 0)


def _without_template(config: SearchConfig, tokenizers: Mapping[Who, Any]) -> list[str]:
    chat = config.evaluation.chat
    asked = f"evaluation.chat.template is {str(chat.template).lower() if chat.template is True else chat.template!r}"
    parents = [parent.name for parent in config.models.parents]
    lacking: dict[str, list[str]] = {}
    for name in parents:
        reason = chat.lacking(tokenizers[name]) if name in tokenizers else None
        if reason is not None:
            lacking.setdefault(reason, []).append(name)
    problems = [
        f"{asked}, but there is {reason} in the tokenizer of {with_and([_said(name) for name in names])}: give each "
        "its template (chat_template.jinja in its folder), leave it out, or ask without a template"
        for reason, names in lacking.items()
    ]
    reason = chat.lacking(tokenizers[THE_MERGE]) if THE_MERGE in tokenizers else None
    if reason is not None:
        have = [name for name in parents if not any(name in names for names in lacking.values())]
        remedy = (
            f"set models.tokenizer to a parent that has one: {', '.join(have)}" if have else "ask without a template"
        )
        problems.append(
            f"{asked}, but the tokenizer that the merge gets (models.tokenizer: "
            f"{config.models.tokenizer or 'null'}) has {reason}; {remedy}"
        )
    return problems


def _template(tokenizer: Any) -> Any:
    return getattr(tokenizer, "chat_template", None)


def _because(config: SearchConfig, kind: str) -> str:
    models = config.models
    if kind == "config":
        return "which lends config.json"
    if kind == "generation_config" and models.generation_config is not None:
        return "models.generation_config"
    if models.tokenizer is not None:
        return "models.tokenizer"
    return f"models.{kind} is null"


def _conflicts(config: SearchConfig, kind: _Kind, merge: Recipe) -> Iterator[str]:
    """Yield a sentence for each setting that parents and base disagree about."""
    models = config.models
    members = {parent.name: parent for parent in models.members}
    opened = {name: kind.lender(Recipe(PASSTHROUGH, (parent,))) for name, parent in members.items()}
    tried = {name: _tried(kind.values, one) for name, one in opened.items()}
    said = {name: told for name, told in tried.items() if told is not None}
    # Two names may be of one folder; the one that the configuration says is told.
    named = () if kind.name == "config" else (getattr(models, kind.name), models.tokenizer)
    likely = [name for name in (*named, "base", *opened) if name in opened]
    lent = kind.folder(kind.lender(merge))
    chosen = next((name for name in likely if kind.folder(opened[name]) == lent), THE_MERGE)
    if kind.name == "config" and chosen is not THE_MERGE and chosen in said:
        for name, told in said.items():
            same = settings_alike(opened[name], opened[chosen])
            own = {key: value for key, value in told.items() if key not in same}
            said[name] = own | {key: value for key, value in said[chosen].items() if key in same}
    keys = {key for told in said.values() for key in told}
    if isinstance(models.tokenizer, TokenizerBuild):  # the same token has another number in each
        keys = {key for key in keys if not key.endswith(("vocab_size", "token_id", "tokens", "words_ids"))}
    for key in sorted(keys):
        groups: dict[str, list[str]] = {}
        for name, told in said.items():
            groups.setdefault(_shown(told.get(key)), []).append(name)
        if len(groups) > 1:
            # The value that the merge gets comes first.
            order = sorted(groups, key=lambda value: chosen not in groups[value])
            each = ", ".join(f"{value} in {with_and([_said(name) for name in groups[value]])}" for value in order)
            set_apart = key.startswith("chat_template") and models.chat_template is not None
            because = "models.chat_template" if set_apart else _because(config, kind.name)
            yield f"{kind.name}: {key} is {each}; the merge takes {_owner(chosen)} ({because})"


def _owner(name: Who) -> str:
    if name is THE_MERGE:
        return "one of its own"
    return "the base's" if name == "base" else f"{_said(name)}'s"


def _said(who: Who) -> str:
    """Return how a model is called in a sentence."""
    if who is THE_MERGE:
        return "the merge"
    return f"the parent {who!r}" if who == "the merge" else who


def _shown(value: Any) -> str:
    return "not set" if value is None else visible(repr(value), most=80)


def _of_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Return what a tokenizer says about chats, special tokens and lengths; its vocabulary is checked elsewhere."""
    template = _template(tokenizer)
    texts = template if isinstance(template, Mapping) else {"": template} if template else {}
    # A template without a name is the one that is taken by default.
    told = {f"chat_template {name}".removesuffix(" default").strip(): _Text(text) for name, text in texts.items()}
    tokens = {key: value for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    length = getattr(tokenizer, "model_max_length", None)
    bos = tokenizer.bos_token_id
    begins = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    said = {**told, **tokens, "model_max_length": length if length is not None and length < 1e9 else None}
    return {**said, "beginning of each text": tokenizer.bos_token if begins else None}


class _Text:
    """A long text, told by its length and its hash."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        import hashlib

        return f"one of {len(self._text)} characters ({hashlib.sha256(self._text.encode()).hexdigest()[:8]})"


def _of_generation(config: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = getattr(config, "_get_default_generation_params", dict)()
    said = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    said.pop("transformers_version", None)
    told = {key: defaults.get(key) if value is None else value for key, value in said.items()}
    return {key: _ids(value) if key.endswith("token_id") else value for key, value in told.items()}


def _ids(value: Any) -> Any:
    """Return ids of tokens in one form: one alone, or several in order."""
    if isinstance(value, (list, tuple)):
        return sorted(set(value)) if len(set(value)) > 1 else next(iter(value), None)
    return value


def _of_config(config: Any) -> dict[str, Any]:
    depth = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    flat: dict[str, Any] = {}

    def visit(data: Mapping[str, Any], prefix: str) -> None:
        for name, value in data.items():
            key = str(name)
            if key.startswith("_") or key in _UNTOLD or key == depth:
                continue
            if isinstance(value, Mapping):
                visit(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = _ids(value) if key.endswith("token_id") else value

    visit(config.to_dict(), "")
    return flat
