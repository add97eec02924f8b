"""The config.json of a model with another depth, or another vocabulary, than the checkpoint that lends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.formats.quantised import forget_quantisation
from evomerge.merge.paths.pattern import pattern_of
from evomerge.merge.tokens.numbers import take_numbers

TIES = "tie_word_embeddings"
"""The setting by which the head is the embedding."""


def config_json(folder: Path, config: Any) -> dict[str, Any]:
    """Return the config.json of a folder, with depth, per-layer settings, tie and vocabulary of a configuration.

    Args:
        folder: the checkpoint that lends the file.
        config: a configuration of the same class, for example `CompatibleParents.config(path)`.

    Raises:
        CheckpointError: if config.json of this family cannot express the depth or the per-layer settings.
    """
    data: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    forget_quantisation(data)
    take_numbers(data, _read(data, config), config)
    differences = _differences(data, config)
    if not differences:
        return data
    depth = config.num_hidden_layers
    name = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    data[name if name in data or "num_hidden_layers" not in data else "num_hidden_layers"] = depth
    if any(difference.startswith(TIES) for difference in differences):
        data[TIES] = getattr(config, TIES)
    # A family may derive the types of its layers from the depth, so the path's own are written out.
    data.update(pattern_of(config, depth).settings)
    wrong = _differences(data, config)
    if wrong:
        raise CheckpointError(
            f"config.json of {config.model_type} cannot say what each layer of the path is: {'; '.join(wrong)}"
        )
    return data


def check_written(folder: Path, config: Any, *, trust_remote_code: bool = False) -> None:
    """Check that a written config.json is read back with the depth and per-layer settings of a configuration.

    Raises:
        CheckpointError: if it is not.
    """
    from transformers import AutoConfig

    read = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    wrong = _compare(read, config)
    if wrong:
        raise CheckpointError(f"the config.json that was written is read back differently: {'; '.join(wrong)}")


def _differences(data: dict[str, Any], config: Any) -> list[str]:
    return _compare(_read(data, config), config)


def _read(data: dict[str, Any], like: Any) -> Any:
    """Return the configuration that the text of a config.json makes, of the class of another."""
    return type(like).from_dict(_floats(data))


def _floats(value: Any) -> Any:
    """Return values of JSON with the numbers that it does not know, which transformers writes as {"__float__": …}."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {key: _floats(one) for key, one in value.items()}
    return [_floats(one) for one in value] if isinstance(value, list) else value


def _compare(read: Any, config: Any) -> list[str]:
    depth = getattr(config, "num_hidden_layers", None)
    if depth is None:  # a family without the setting; its checkpoints are never used at another depth
        return []
    wanted = {"num_hidden_layers": depth, **pattern_of(config, depth).settings}
    found = {key: getattr(read, key, None) for key in wanted} | pattern_of(read, depth).settings
    if hasattr(config, TIES):
        wanted[TIES] = getattr(config, TIES)
        found[TIES] = getattr(read, TIES, None)
    return [
        f"{key} would be {got!r} instead of {value!r}"
        for key, value in wanted.items()
        if (got := _plain(found.get(key))) != value
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
