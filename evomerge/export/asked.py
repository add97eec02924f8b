"""How the models of a run were asked, in words for its model card: whoever asks otherwise gets other scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NO = (None, False, "no", "off", "false")
_MOST = 200
"""Characters of a system text that are shown."""


def how_asked(config: Mapping[str, Any]) -> str | None:
    """Return how a run asked its models, in one sentence; None: as each task does by itself, in plain text.

    Args:
        config: the run's configuration, as it was composed.
    """
    evaluation = config.get("evaluation")
    if not isinstance(evaluation, Mapping):
        return None
    chat = evaluation.get("chat")
    said = chat if isinstance(chat, Mapping) else {"template": chat}
    template = said.get("template")
    template = evaluation.get("apply_chat_template") if template is None else template
    parts = []
    if template not in _NO:
        named = "" if template in (True, "yes", "on", "true") else f" {template!r}"
        parts.append(f"as a chat, by the chat template{named} of each tokenizer")
        if said.get("fewshot_as_turns") in _NO[1:]:
            parts.append("solved examples in the user's turn")
    if said.get("system"):
        text = str(said["system"])
        parts.append(f"system text: {text[:_MOST]}{'…' if len(text) > _MOST else ''}")
    arguments = said.get("arguments")
    if isinstance(arguments, Mapping) and arguments:
        parts.append(_listed(arguments))
    if said.get("think_end_token") is not None:
        parts.append(f"the answer is what follows the last {said['think_end_token']}")
    tasks = evaluation.get("tasks")
    for task in tasks if isinstance(tasks, Sequence) else ():
        generation = task.get("generation") if isinstance(task, Mapping) else None
        if isinstance(generation, Mapping) and generation:
            parts.append(f"{task.get('name')} with {_listed(generation)}")
    return "; ".join(dict.fromkeys(parts)) or None


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
