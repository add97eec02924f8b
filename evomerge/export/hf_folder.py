"""A recipe to a Hugging Face folder that appears whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.errors import ExportError
from evomerge.export.publishing import CUT_NOTE, published_recipe, refuse_secrets_in_folder
from evomerge.export.questions import NEUTRAL, Question
from evomerge.recipe import Recipe
from evomerge.system.files import free_folder, os_problem, sync_folder
from evomerge.system.leftovers import hidden_folder

if TYPE_CHECKING:
    from evomerge.export.answering import Answering
    from evomerge.export.verification import Verification
    from evomerge.merge.paths.plan import RepeatedLayers
    from evomerge.merge.sources import Sources

MERGEKIT_FILE, RECIPE_FILE = "mergekit.yaml", "recipe.yaml"


@dataclass(frozen=True)
class ExportReport:
    """What is known of an exported folder.

    Attributes:
        verification: how it compares with the live model; None: not asked for.
        repeated: the cost of layers that a path visits more than once; None: the recipe has no path.
        files: names of the files beside weights, config and tokenizer.
        auto_class: the Auto class of transformers that loads it.
        answering: how it answered before it appeared; None: it does not generate, or was not asked.
    """

    verification: Verification | None = None
    repeated: RepeatedLayers | None = None
    files: tuple[str, ...] = ()
    auto_class: str = "AutoModelForCausalLM"
    answering: Answering | None = None


def export_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    card: str | Callable[[ExportReport], str] | None = None,
    extra_files: Mapping[str, str] | None = None,
    shard_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    verify: bool = True,
    tolerance: float | None = None,
    report: Callable[[ExportReport], None] | None = None,
    questions: Sequence[Question] | None = None,
    force: bool = False,
    sources: Sources | None = None,
) -> Path:
    """Build a recipe's model, write it with its card, and return the folder.

    Everything is written into a hidden folder beside `out`, which is renamed at the end.

    Args:
        recipe: the recipe.
        out: the folder; it must not exist, or be empty.
        card: the text of README.md, or a function from the report to the text; None: no card.
        extra_files: further text files by name.
        shard_size: bytes of the largest weight file; None: the default of `merge_to_disk`.
        progress: called with (steps done, steps in all).
        verify: whether the finished folder is compared with the live model before it appears.
        tolerance: of that comparison; see `evomerge.export.verify.verify`.
        report: called at the end with what is known of the folder.
        questions: what the finished folder is asked before it appears; None: a few neutral prompts.
        force: whether the folder appears however it answers. With `verify=False` no model is loaded at all, and the
            folder is asked nothing.
        sources: opened models to share, so that several exports open the parents and prepare methods once.

    Returns:
        `out`, with safetensors, config, tokenizer, recipe.yaml, README.md, and mergekit.yaml where mergekit
        can build the recipe.

    Raises:
        ExportError: if `out` is in use or cannot be written, the folder does not compute what the recipe does, or its
            answers are cut, empty or repeating beside its parents'; then nothing is left behind.
        CheckpointError: if a parent is missing or does not fit the others.
        RecipeError: if the recipe's method refuses its parameters.
    """
    from evomerge.merge.disk.folder import merge_to_disk
    from evomerge.merge.sources import Sources as OpenedSources

    out = free_folder(out, ExportError)
    options: dict[str, Any] = {} if shard_size is None else {"shard_size": shard_size}
    sources = sources or OpenedSources(one_merge=not verify)
    target = out.resolve()  # a link to an empty folder is filled, not replaced
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with hidden_folder(target) as aside:
            model = aside / "model"  # it is written aside and renamed, too, all inside of our hidden folder
            try:
                merge_to_disk(recipe, model, progress=progress, sources=sources, **options)
            except ExportError as error:  # its message names the hidden folder, which means nothing to the user
                raise ExportError(str(error).replace(str(model), str(out))) from error
            texts = {**_recipe_text(recipe), **_mergekit(recipe, sources), **(extra_files or {})}
            known = ExportReport(
                verification=_verified(recipe, model, sources, tolerance) if verify else None,
                repeated=sources.path_plan(recipe).repeated_layers() if recipe.path else None,
                files=tuple(name for name in texts if name != RECIPE_FILE),
                auto_class=_auto_class(recipe, model, sources),
                answering=None
                if force and not verify
                else _answered(recipe, model, out, sources, questions, force=force, progress=progress),
            )
            if card is not None:
                texts["README.md"] = card if isinstance(card, str) else card(known)
            for name, text in texts.items():
                (model / name).write_text(text, encoding="utf-8")
            refuse_secrets_in_folder(model, sorted(path.name for path in model.iterdir() if path.is_file()))
            sync_folder(model)
            free_folder(out, ExportError)
            model.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise ExportError(_problem(error, out)) from error
    if report is not None:
        report(known)
    return out


def _verified(recipe: Recipe, model: Path, sources: Sources, tolerance: float | None) -> Verification:
    from evomerge.export.verify import verify

    found = verify(recipe, model, sources=sources, tolerance=tolerance)
    if not found.passed:
        hint = ""
        if not found.problems and found.without_epsilon is not None and found.without_epsilon <= found.tolerance:
            hint = (
                ". The scales are folded exactly but for the norms' epsilon, which shows because the hidden states of "
                "this path are small: allow it with --tolerance; --no-verify writes the folder as it is"
            )
        raise ExportError(f"the exported model does not compute what the recipe does: {found}{hint}")
    return found


def _auto_class(recipe: Recipe, model: Path, sources: Sources) -> str:
    from evomerge.export.verify import needs_code
    from evomerge.merge.files.model_class import auto_class_of

    return str(auto_class_of(model, trust_remote_code=needs_code(recipe, sources)).__name__)


def _answered(
    recipe: Recipe,
    model: Path,
    out: Path,
    sources: Sources,
    questions: Sequence[Question] | None,
    *,
    force: bool,
    progress: Callable[[int, int], None] | None,
) -> Answering | None:
    from evomerge.export.answering import answering, refusal
    from evomerge.export.verify import needs_code

    found = answering(
        model,
        recipe,
        questions or NEUTRAL,
        sources=sources,
        own_tasks=bool(questions),
        trust_remote_code=needs_code(recipe, sources),
        progress=progress,
    )
    if found is not None and not found.passed and not force:
        raise refusal(found, out)
    return found


def _recipe_text(recipe: Recipe) -> dict[str, str]:
    """Return the recipe for publication, by name; nothing where it is as it was written with the weights."""
    published = published_recipe(recipe)
    if published == recipe:
        return {}
    return {
        RECIPE_FILE: f"{CUT_NOTE}# SHA-256 of the recipe with its paths: {recipe.content_hash}\n{published.to_yaml()}"
    }


def _mergekit(recipe: Recipe, sources: Sources) -> dict[str, str]:
    """Return the recipe as a file for mergekit, by name; nothing if mergekit cannot express it."""
    from evomerge.interop.mergekit import write_mergekit

    if recipe.path and _unties(recipe, sources):
        return {}  # mergekit keeps the tie, so that the head would be the first model's embedding
    public = dict(zip(recipe.checkpoints(), published_recipe(recipe).checkpoints(), strict=True))
    written = write_mergekit(recipe, places=public)
    return {} if written.problems else {MERGEKIT_FILE: written.text}


def _unties(recipe: Recipe, sources: Sources) -> bool:
    from evomerge.merge.paths.ends import Lenders

    return sources.compatible_parents(recipe).untied(Lenders.of(recipe)) is not None


def _problem(error: OSError, out: Path) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: the model does not fit beside {out} ({reason}). Make room, or choose another disk"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write {out}: {reason}. Choose a folder that you may write"
    return os_problem(error, out)
