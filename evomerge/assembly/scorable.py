"""Whether an engine can score a kind of model at all, known from configurations alone.

Tasks ask for texts and their probabilities. An encoder writes none; an encoder-decoder does, but reads its prompt
elsewhere than a causal model, which lm-eval's own wrapper knows and the other engines do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.merge.files.model_class import auto_class, model_kind

_SCORED = {
    "hf": ("causal", "image_text"),
    "lm-eval": ("causal", "image_text", "seq2seq"),
    "vllm": ("causal", "image_text"),
}
"""Which kinds of models the built-in engines can score; an engine of somebody else's may know more."""


def unscorable(engine: str, configs: Mapping[str | None, Any]) -> list[str]:
    """Return what an engine cannot score, one sentence for each kind of model.

    Args:
        engine: `evaluation.engine`.
        configs: each baseline to its configuration; None stands for the merge.
    """
    if engine not in _SCORED:
        return []
    found: dict[str, list[str]] = {}
    for who, config in configs.items():
        kind = model_kind(config)
        if kind not in _SCORED[engine]:
            found.setdefault(_reason(engine, kind, config), []).append(who or "the merge")
    return [f"{', '.join(names)}: {reason}" for reason, names in found.items()]


def _reason(engine: str, kind: str, config: Any) -> str:
    name = (getattr(config, "architectures", None) or [auto_class(config).__name__])[0]
    if kind == "seq2seq":
        return (
            f"{name} reads its prompt with an encoder, which evaluation.engine={engine} cannot; set "
            "evaluation.engine=lm-eval, which scores encoder-decoders"
        )
    return (
        f"{name} writes no text, so that no task can score it and nothing can be searched; `evomerge merge RECIPE DIR` "
        "merges such models by a recipe"
    )
