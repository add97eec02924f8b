"""lm-eval's sample logs, as `lm_eval --log_samples` of lm-eval 0.4.13 writes them: a JSON line for item and filter."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from evomerge.record import ItemAnswer, ItemPrompt
from evomerge.system.files import explain_os_errors, user_path, write_atomically
from evomerge.system.secrets import hide


def write_samples(
    folder: Path,
    answers: Iterable[ItemAnswer],
    prompts: Mapping[tuple[str, int], ItemPrompt],
    *,
    now: datetime,
    sources: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write a model's answers as `samples_TASK_TIME.jsonl`, one file a task, and return the files.

    Args:
        folder: where to write; it is made if it is missing.
        answers: the answers.
        prompts: what was asked, by task and item; answers to items that are not among them are left out.
        now: the time in the names of the files.
        sources: a task's name to that of the lm-eval task whose documents its items are; others are the same.

    Raises:
        RunError: if a file cannot be written.
    """
    by_task: dict[str, list[ItemAnswer]] = {}
    for answer in answers:
        if (answer.task, answer.item) in prompts:
            by_task.setdefault(answer.task, []).append(answer)
    written = []
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for task, own in by_task.items():
        own.sort(key=lambda answer: answer.item)
        lines = [line for each in _filters(own) for answer in own for line in _line(answer, prompts, each)]
        path = (
            folder / f"samples_{file_name((sources or {}).get(task, task))}_{now.isoformat().replace(':', '-')}.jsonl"
        )
        write_atomically(path, "".join(f"{line}\n" for line in lines))
        written.append(path)
    return written


def samples_folder(named: str | Path, model: str) -> Path:
    """Return the folder of a model's logs in a folder that a user names, where files can be written.

    It is made at once, so that a mistake shows before a model is scored.

    Raises:
        RunError: if there can be no such folder.
    """
    folder = user_path(named) / file_name(model)
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def file_name(name: str) -> str:
    """Return a name as a part of a file's name, by lm-eval's rule for models."""
    return re.sub(r'["<>:/|\\?*\[\]\x00-\x1f]+', "__", name).strip(".") or "_"


def sample(answer: ItemAnswer, prompt: ItemPrompt, each: str) -> dict[str, Any]:
    """Return one entry of the `samples` that `lm_eval.simple_evaluate` returns, as JSON data.

    Args:
        answer: the answer.
        prompt: what was asked.
        each: the filter; lm-eval has one entry for each.
    """
    results = answer.results.get(each, {})
    first = prompt.requests[0][0] if prompt.requests and prompt.requests[0] else ""
    hashes = prompt.hashes or sample_hashes(prompt.document, first, prompt.target)
    return {
        "doc_id": answer.item,
        "doc": prompt.document,
        "target": prompt.target,
        "arguments": [list(request) for request in prompt.requests],
        "resps": [[response] * prompt.repeats for response in answer.responses],
        "filtered_resps": list(answer.filtered.get(each, [])),
        "filter": each,
        "metrics": list(results),
        **dict(zip(("doc_hash", "prompt_hash", "target_hash"), hashes, strict=True)),
        **results,
    }


def sample_hashes(document: Any, prompt: Any, target: Any) -> list[str]:
    """Return what lm-eval logs as `doc_hash`, `prompt_hash` and `target_hash`."""
    texts = (json.dumps(document, indent=2, ensure_ascii=False), str(prompt), str(target))
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]


def _filters(answers: Sequence[ItemAnswer]) -> list[str]:
    return list(dict.fromkeys(each for answer in answers for each in answer.filtered))


def _line(answer: ItemAnswer, prompts: Mapping[tuple[str, int], ItemPrompt], each: str) -> Iterable[str]:
    """Yield an entry as it stands in a file: arguments are named, responses and target are texts."""
    if each not in answer.filtered:
        return
    found = sample(answer, prompts[answer.task, answer.item], each)
    found["resps"], found["filtered_resps"] = _texts(found["resps"]), _texts(found["filtered_resps"])
    found["target"] = str(found["target"])
    found["arguments"] = {
        f"gen_args_{i}": {f"arg_{j}": one for j, one in enumerate(request)}
        for i, request in enumerate(found["arguments"])
    }
    line = hide(json.dumps(found, ensure_ascii=False))
    try:
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair: its escape means the same
        line = json.dumps(found)
    yield line


def _texts(value: Any) -> Any:
    return [_texts(one) for one in value] if isinstance(value, list) else str(value)
