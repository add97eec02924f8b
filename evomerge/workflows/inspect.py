"""What models are, and how they are related: configurations, headers and samples of their weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.assembly.ancestry import Ancestry, ancestry_cautions, judged, pairs_of
from evomerge.assembly.hub_models import bring_models, describe_arriving
from evomerge.config.reader import from_data
from evomerge.errors import CheckpointError, ConfigError
from evomerge.export.licences import describe_parents
from evomerge.interop import load_recipe
from evomerge.merge.files.belongings import has_tokenizer
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.tokens import files_digest, read_tokens
from evomerge.merge.kinship import Kinship, find_kinship
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe, in_braces
from evomerge.store.run_dir import DATABASE, RunDir
from evomerge.workflows import Note


def inspect(
    models: Sequence[str | Path | Recipe], *, base: str | Path | Recipe | None, download: bool, note: Note | None
) -> dict[str, Any]:
    """Return what models are and how they are related; see `evomerge.api.inspect`."""
    parents, origin = _named(models, base)
    everyone = [*parents, *([origin] if origin is not None else [])]
    if note is not None:
        note(f"opening {len(everyone)} model{'s' * (len(everyone) != 1)}")
    sources, problems = Sources(tell=False), []
    opened: dict[str, OpenModel] = {}
    for one in everyone:
        try:
            opened[one.name] = sources.open(one.source)
            opened[one.name].naming  # noqa: B018  (whether the files hold what config.json describes)
        except CheckpointError as error:
            problems.append(f"{one.name}: {error}")
    if problems:
        raise CheckpointError("\n".join(problems))
    named = None if origin is None else origin.name
    missing = {(model.listing.path, model.listing.commit): sum(one.size for one in model.missing)
               for model, _ in sources.arriving}  # fmt: skip
    if download:
        bring_models(sources, note)
    elif missing and note is not None:
        for line in describe_arriving(sources):
            note(line)
        note("answered from headers: nothing was downloaded, so nothing is said of ancestry; --download brings weights")
    headers_alone = bool(missing) and not download
    if headers_alone:
        kinship = Kinship(tuple(opened), named, {}, {}, {}, 0, 0)
        verdicts: Mapping[str, Ancestry] = {}
    else:
        kinship = find_kinship(list(opened.items()), named)
        verdicts = judged(kinship)
    digests: dict[Path, str | None] = {}
    return {
        "base": kinship.base,
        "models": [_described(one, opened[one.name], kinship, verdicts.get(one.name), digests) for one in everyone],
        "pairs": list(pairs_of(kinship)),
        "ancestry": {name: one.verdict for name, one in verdicts.items()},
        "warnings": [] if headers_alone else [one.to_data() for one in ancestry_cautions(kinship)],
        "to_download": 0 if download else sum(missing.values()),
        "sampled_tensors": kinship.n_tensors,
        "read_bytes": kinship.read_bytes,
    }


def _named(
    models: Sequence[str | Path | Recipe], base: str | Path | Recipe | None
) -> tuple[list[Parent], Parent | None]:
    """Return the models with the shortest names that tell them apart, and the base.

    Raises:
        ConfigError: if there is no model.
    """
    found: list[Parent] = []
    origin: Parent | None = None
    for target in models:
        run = _run_of(target)
        if run is None:
            found.append(_source(target))
        else:
            found += run[0]
            origin = origin or run[1]
    if base is not None:
        origin = _source(base)
        found = [one for one in found if one.source != origin.source] or found  # it is listed anyway
    if not found:
        raise ConfigError("name at least one model: a folder, a Hub id, zoo:NAME, a recipe file or a run")
    taken: set[str] = {origin.name} if origin is not None else set()
    names = []
    for one in found:
        name, n = one.name, 2
        while name in taken:
            name, n = f"{one.name} ({n})", n + 1
        taken.add(name)
        names.append(Parent(name, one.source))
    return names, origin


def _run_of(target: str | Path | Recipe) -> tuple[list[Parent], Parent | None] | None:
    """Return the parents and the base of a run; None: it is none."""
    if isinstance(target, Recipe) or in_braces(str(target)) or not (Path(target) / DATABASE).is_file():
        return None
    with RunDir.open(target) as run:
        config = from_data(run.config).models
    return list(config.parents), config.base


def _source(target: str | Path | Recipe) -> Parent:
    """Return a model with a name: what was given as NAME=MODEL, or the last part of its place."""
    if isinstance(target, Recipe):
        return Parent(f"recipe {target.content_hash[:8]}", target)
    text = str(target)
    name, equals, place = text.partition("=")
    if not equals or "/" in name or "{" in name or (not in_braces(place) and Path(text).exists()):
        name, place = "", text
    if in_braces(place):
        source = ModelSource.from_text(place)
        return Parent(name or _last_part(source.adapter or source.file or source.path), source)
    if Path(place).suffix in (".yaml", ".yml"):
        return Parent(name or Path(place).stem, load_recipe(place))
    source = ModelSource.from_data(place)
    return Parent(name or _last_part(place if Path(place).exists() else source.path), source)


def _last_part(place: str) -> str:
    if place.startswith("zoo:"):
        return place.removeprefix("zoo:")
    return Path(place).expanduser().resolve().name if Path(place).expanduser().exists() else place.rpartition("/")[2]


def _described(
    parent: Parent,
    opened: OpenModel,
    kinship: Kinship,
    ancestry: Ancestry | None,
    digests: dict[Path, str | None],
) -> dict[str, Any]:
    config, text = opened.config, opened.config.get_text_config(decoder=True)
    listed = getattr(config, "architectures", None) or [type(opened.architecture.model).__name__]
    licences = {str(one.licence) if one.licence else None for one in describe_parents(_alone(parent))}
    template = _template(opened.tokenizer_folder)
    return {
        "name": parent.name,
        "source": opened.label,
        "architecture": str(listed[0]),
        "model_type": getattr(config, "model_type", None),
        "layers": opened.architecture.n_layers,
        "hidden_size": getattr(text, "hidden_size", None),
        "parameters": sum(
            math.prod(opened.tensors.infos[own].shape)
            for own, target in opened.naming.targets.items()
            if not opened.architecture.places[target].buffer
        ),
        "vocabulary": opened.architecture.n_embeddings,
        "tied": opened.architecture.tied,
        "dtype": str(opened.dtype).removeprefix("torch."),
        "storage": getattr(opened.tensors, "storage", None),
        "tokenizer": _tokenizer(opened, digests),
        "chat_template": None if template is None else hashlib.sha256(template.encode()).hexdigest()[:12],
        "licence": " and ".join(sorted(map(str, licences))) if licences and None not in licences else None,
        "not_finite": list(kinship.not_finite.get(parent.name, ())),
        "ancestry": None if ancestry is None else ancestry.verdict,
        "reason": None if ancestry is None else ancestry.reason,
        "likelier_base": None if ancestry is None else ancestry.likelier,
    }


def _alone(parent: Parent) -> Recipe:
    return Recipe(PASSTHROUGH, (parent,))


def _tokenizer(opened: OpenModel, digests: dict[Path, str | None]) -> str | None:
    """Return a hash of a tokenizer's tokens and their numbers; None: there is none that can be read."""
    folder = opened.tokenizer_folder
    if folder not in digests:
        digests[folder] = _digest_of_tokens(opened, digests)
    return digests[folder]


def _digest_of_tokens(opened: OpenModel, digests: Mapping[Path, str | None]) -> str | None:
    folder = opened.tokenizer_folder
    if not has_tokenizer(folder):
        return None
    try:
        files = files_digest(folder)
        same = next((one for one in digests if digests[one] is not None and files_digest(one) == files), None)
        if same is not None:  # it takes long to load one of many tokens
            return digests[same]
        tokens = read_tokens(folder, trust_remote_code=opened.trust_remote_code)
    except CheckpointError:
        return None
    if tokens is None:
        return None
    return hashlib.sha256(json.dumps(sorted(tokens.ids.items())).encode()).hexdigest()[:12]


def _template(folder: Path) -> str | None:
    """Return the chat template of a folder as text; None: there is none."""
    try:
        if (folder / "chat_template.jinja").is_file():
            return (folder / "chat_template.jinja").read_text(encoding="utf-8")
        for name in ("chat_template.json", "tokenizer_config.json"):
            if (folder / name).is_file():
                said = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
                if said:
                    return said if isinstance(said, str) else json.dumps(said, sort_keys=True)
    except (OSError, ValueError, AttributeError):
        return None
    return None
