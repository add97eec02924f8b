"""Whether a saved checkpoint computes what its recipe does: both run on the same prompts, in float32.

The checkpoint is loaded as users would load it, with plain `from_pretrained` of its Auto class; the recipe is made live
as in a search. What a right folder may differ by, and how it is told from a wrong one:

- **Every weight** must be, bit for bit, what the recipe gives, or that rounded to the folder's type; those that are not
  are named. So a wrong tensor is never taken for rounding.
- **The same bytes** then differ by the order of sums only (`EXACT`).
- **Rounded weights** (the folder was cast to a narrower type, or the scales of a layer path were folded into weights of
  half precision, see `evomerge.merge.paths.fold`) differ by that rounding (`HALF_PRECISION_ROUNDINGS`).
- **The norms' epsilon.** A fold is exact but for the epsilon in the norms, which weighs more in one model than in the
  other where hidden states are small. So both also run without it (`TINY`), and there they must agree as above. The
  difference that the epsilon makes passes if it is below `EPSILON_SHOWS` and changes no greedy token.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import CheckpointError, ExportError
from evomerge.export.passes import differences, in_batches, prompt_tokens, reads_text, run
from evomerge.export.seen import ImageAnswer, same_inputs, see, sees
from evomerge.export.verification import Verification
from evomerge.merge.disk.folder import tensors_of
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint
from evomerge.merge.files.model_class import auto_class_of
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import Recipe
from evomerge.system.leftovers import scratch_folder
from evomerge.system.processor import load_processor
from evomerge.system.text import visible

EXACT = 1e-4
"""Default tolerance for equal bytes, and in float32: for the order of summation, which depends on the attention and on
the number of threads. On the zoo and on models of 0.5B, on a CPU and on an H200, it is up to 2e-6."""

EPSILON_SHOWS = 2.0**-8
"""Largest relative difference of logits that the norms' epsilon may make: the rounding of a bfloat16 number, which
whoever runs the folder in its usual type adds anyway."""

TINY = 1e-30
"""What stands for the epsilon of a norm in a run without it: nothing beside any variance, but no division by 0."""

HALF_PRECISION_ROUNDINGS = 32
"""Default tolerance in half precision, in units of the type's rounding error u (2⁻⁸ for bfloat16, 2⁻¹¹ for float16).

A weight that was divided is rounded again, by up to u of its size, or u/√3 in the mean square. Each branch then has
about that error, whatever its width, since errors add up like terms, and later layers amplify it. Measured on paths of
nine layers of the built-in zoo, the difference is up to 4u for scales from 0.5 to 2, and 19u for scales from 0.3 to 3.
For another recipe it is about 1.
"""


def verify(
    recipe: Recipe,
    folder: str | Path,
    *,
    prompts: Sequence[str] = (),
    n_random: int = 8,
    length: int = 48,
    new_tokens: int = 32,
    seed: int = 0,
    tolerance: float | None = None,
    device: str | torch.device = "cpu",
    sources: Sources | None = None,
) -> Verification:
    """Compare a checkpoint with the live model of a recipe; only one of the two is in memory at a time.

    Args:
        recipe: the recipe.
        folder: the checkpoint.
        prompts: texts; the recipe's tokenizer encodes them, and the folder's must do so alike.
        n_random: further prompts, of random tokens.
        length: tokens of each random prompt (fewer where the model holds no more).
        new_tokens: greedy tokens to generate after each prompt.
        seed: of the random tokens.
        tolerance: the largest relative difference of logits that passes, whatever its reason. None: 1e-4 if the weights
            are those of the recipe or in float32, else (rounded or folded in half precision) 32 times the rounding
            error of their type; and the norms' epsilon may make a difference of 2⁻⁸ that changes no token.
        device: the device on which both run, one after the other.
        sources: opened models to share.

    Raises:
        ExportError: if the folder cannot be loaded, or there is nothing to compare on.
        CheckpointError: if the parents of the recipe cannot be read.
        RecipeError: if the recipe is wrong.
    """
    folder = Path(folder)
    if not prompts and n_random < 1:
        raise ExportError("there is nothing to compare on: give prompts, or let it draw random ones")
    if length < 1 or new_tokens < 0:
        raise ExportError(f"prompts need at least 1 token, new_tokens at least 0; came {length} and {new_tokens}")
    dtype = _dtype(folder)
    sources = sources or Sources()
    live = LiveModels(dtype="float32", device=device, sources=sources)
    live.write(recipe)
    tokenizer = _live_tokenizer(live, prompts)
    used = _settings(live.model, tokenizer)
    batches = in_batches(prompt_tokens(live.model, tokenizer, prompts, n_random, length, new_tokens, seed))
    batches = batches if batches and reads_text(live.model, batches) else []
    folded = any(step.scale != 1.0 for step in recipe.path)
    with scratch_folder("evomerge-verify-") as scratch:
        # Logits of many prompts with a large vocabulary may take more memory than the model.
        for i, batch in enumerate(batches):
            torch.save(run(live.model, batch, new_tokens), Path(scratch) / f"{i}.pt")
            if folded:
                with _without_epsilon(live.model):
                    torch.save(run(live.model, batch, 0)[0], Path(scratch) / f"{i}-without-epsilon.pt")
        weights = {} if folded else _checksums(live.model, dtype)
        seen, unseen = _see(live.model, partial(getattr, live, "processor"), new_tokens, seed)
        del live
        own_code = needs_code(recipe, sources)
        saved, problems = _load(folder, device, trust_remote_code=own_code)
        problems += _tokenizer_problems(folder, tokenizer, prompts, batches, trust_remote_code=own_code)
        problems += _settings_problems(folder, used, saved, trust_remote_code=own_code)
        rounded, wrong = (True, _folded_weights(recipe, folder, sources)) if folded else _weights(saved, weights)
        if wrong:
            names = f"{', '.join(wrong[:5])}{' and more' if wrong[5:] else ''}"
            problems.append(f"the folder does not hold what the recipe gives for {names}")
        apart: list[float] = []
        without: list[float] = []
        equal: list[bool] = []
        if seen is not None:
            other, unread = _see(saved, lambda: load_processor(folder, trust_remote_code=own_code), new_tokens, seed)
            if other is None:
                problems.append(f"it cannot be shown an image: {unread}")
            else:
                apart += differences(seen.logits, other.logits)
                equal += (seen.tokens == other.tokens).flatten().tolist()
                problems += [] if same_inputs(seen, other) else ["its processor reads images differently"]
        for i, batch in enumerate(batches):
            logits, tokens = torch.load(Path(scratch) / f"{i}.pt")
            own_logits, own_tokens = run(saved, batch, new_tokens)
            apart += differences(logits, own_logits)
            equal += (tokens == own_tokens).flatten().tolist()
            if folded and not wrong:
                with _without_epsilon(saved):
                    logits = torch.load(Path(scratch) / f"{i}-without-epsilon.pt")
                    without += differences(logits, run(saved, batch, 0)[0])
    return Verification(
        logit_difference=_largest(apart),
        tolerance=tolerance if tolerance is not None else default_tolerance(dtype, rounded=rounded),
        equal_tokens=sum(equal) / len(equal) if equal else 1.0,
        n_prompts=sum(len(batch) for batch in batches) + (seen is not None),
        n_tokens=len(equal),
        dtype=str(dtype).removeprefix("torch."),
        folded=folded,
        problems=tuple(problems),
        without_epsilon=_largest(without) if without else None,
        epsilon_allowed=EPSILON_SHOWS if tolerance is None else 0.0,
        unseen=unseen,
    )


def _see(model: Any, processor: Callable[[], Any], new_tokens: int, seed: int) -> tuple[ImageAnswer | None, str]:
    """Return what a model makes of an image, or None and why it was shown none; "": it does not see."""
    if not sees(model):
        return None, ""
    try:
        found = processor()
        return (None, "there are no files that say how images are read") if found is None else (
            see(model, found, new_tokens, seed), ""
        )  # fmt: skip
    except Exception as error:  # processors need packages that may be missing, and templates may want anything
        return None, visible(f"{type(error).__name__}: {error}", most=200)


def default_tolerance(dtype: torch.dtype, *, rounded: bool) -> float:
    """Return the largest relative difference of logits that passes; see `EXACT` and `HALF_PRECISION_ROUNDINGS`.

    Args:
        dtype: the type of the folder's weights.
        rounded: whether they were rounded to it after the live model's were.
    """
    if not rounded or dtype == torch.float32:
        return EXACT
    return HALF_PRECISION_ROUNDINGS * torch.finfo(dtype).eps / 2


def _checksums(model: torch.nn.Module, dtype: torch.dtype) -> dict[str, tuple[int, int]]:
    """Return for each parameter a checksum of its values, and one of its values rounded to a type."""
    return {
        name: (_checksum(parameter), _checksum(parameter.to(dtype).to(parameter.dtype)))
        for name, parameter in model.named_parameters()
    }


def _checksum(tensor: torch.Tensor) -> int:
    data: Any = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return zlib.crc32(data)


def _weights(saved: torch.nn.Module, live: Mapping[str, tuple[int, int]]) -> tuple[bool, list[str]]:
    """Return whether weights of a loaded folder are rounded ones, and the names of those that are neither."""
    rounded, wrong = False, []
    for name, parameter in saved.named_parameters():
        if name not in live:
            continue
        found, (exact, cast) = _checksum(parameter), live[name]
        rounded = rounded or exact != found == cast
        if found not in (exact, cast):
            wrong.append(name)
    return rounded, wrong


def _folded_weights(recipe: Recipe, folder: Path, sources: Sources) -> list[str]:
    """Return the names of the tensors of a folder that are not what a recipe gives with its scales folded in."""
    saved = SafetensorsCheckpoint(folder)
    wrong = []
    for name, make in tensors_of(recipe, sources):
        if name in saved.infos:  # else tied, or lost: transformers says which
            made, found = make(), saved.load(name)
            if made.shape != found.shape or not torch.equal(made.to(found.dtype), found):
                wrong.append(name)
    return wrong


@contextmanager
def _without_epsilon(model: torch.nn.Module) -> Iterator[None]:
    """Run a model whose norms have next to no epsilon; any small constant of a module that is called one counts."""
    before = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if "eps" in name.lower() and isinstance(value, float) and 0.0 < value <= 1e-2
    ]
    try:
        for module, name, _ in before:
            setattr(module, name, TINY)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _largest(differences: Sequence[float]) -> float:
    return max(differences, key=lambda one: math.inf if math.isnan(one) else one, default=0.0)


def _dtype(folder: Path) -> torch.dtype:
    """Return the type of most values in a folder's weights."""
    try:
        infos = SafetensorsCheckpoint(folder).infos.values()
    except CheckpointError as error:
        raise ExportError(f"{folder} cannot be verified: {error}") from error
    size: dict[torch.dtype, int] = {}
    for info in infos:
        if info.dtype.is_floating_point:
            size[info.dtype] = size.get(info.dtype, 0) + info.n_bytes
    return max(size, key=lambda dtype: size[dtype], default=torch.float32)


def needs_code(recipe: Recipe, sources: Sources) -> bool:
    """Return whether the recipe's configuration comes with custom code, which its checkpoint then contains.

    Args:
        recipe: the recipe.
        sources: its opened models, which tell whose configuration it has.

    Raises:
        CheckpointError, RecipeError: if its models cannot be opened.
    """
    source = sources.donor_of(recipe).source
    return needs_code(source, sources) if isinstance(source, Recipe) else source.trust_remote_code


def _load(folder: Path, device: str | torch.device, *, trust_remote_code: bool) -> tuple[Any, list[str]]:
    auto: Any = None
    try:
        auto = auto_class_of(folder, trust_remote_code=trust_remote_code)
        model, info = auto.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    except Exception as error:  # transformers raises almost anything on a broken folder
        name = "AutoConfig" if auto is None else auto.__name__
        raise ExportError(f"{name}.from_pretrained cannot load {folder}: {error}") from error
    problems = []
    for key, what in (("missing_keys", "lacks"), ("mismatched_keys", "holds in another shape")):
        names = sorted(str(name) for name in info.get(key) or ())
        if names:
            problems.append(f"the folder {what} {', '.join(names[:5])}{' and more' if names[5:] else ''}")
    return model.to(device).eval().requires_grad_(False), problems


def _live_tokenizer(live: LiveModels, prompts: Sequence[str]) -> Any:
    try:
        return live.tokenizer
    except CheckpointError:
        if prompts:
            raise
        return None


def _tokenizer_problems(
    folder: Path, tokenizer: Any, prompts: Sequence[str], batches: Sequence[torch.Tensor], *, trust_remote_code: bool
) -> list[str]:
    from transformers import AutoTokenizer

    if tokenizer is None:
        return []
    try:
        own = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises almost anything on missing or broken files
        return [f"the folder has no tokenizer that transformers can load: {error}"]
    problems = []
    if own.get_vocab() != tokenizer.get_vocab():
        problems.append("its tokenizer has another vocabulary")
    texts = [*prompts, *(tokenizer.decode(row) for batch in batches for row in batch)]
    other = sum(tokenizer(text)["input_ids"] != own(text)["input_ids"] for text in texts)
    if other:
        problems.append(f"its tokenizer encodes {other} of {len(texts)} texts differently")
    return problems


def _settings(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Return what decides how a model is asked, besides weights and vocabulary."""
    config = model.config.get_text_config(decoder=True)
    lengths = {key: getattr(config, key, None) for key in ("max_position_embeddings", "n_positions", "n_ctx")}
    generation = model.generation_config.to_dict() if model.can_generate() else {}
    told = {key: value for key, value in generation.items() if not key.startswith("_")}
    told.pop("transformers_version", None)
    return {**lengths, **told, "chat_template": getattr(tokenizer, "chat_template", None)}


def _settings_problems(folder: Path, used: dict[str, Any], saved: Any, *, trust_remote_code: bool) -> list[str]:
    from transformers import AutoTokenizer

    tokenizer = None
    with contextlib.suppress(Exception):  # `_tokenizer_problems` has said so
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    own = _settings(saved, tokenizer)
    return [
        f"its {key} is {visible(repr(own.get(key)), most=60)} instead of {visible(repr(used.get(key)), most=60)}"
        for key in sorted(own.keys() | used.keys())
        if own.get(key) != used.get(key) and (tokenizer is not None or key != "chat_template")
    ]
