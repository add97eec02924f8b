"""The generation config of a checkpoint, as transformers reads it: what ends an answer, what may be its next token.

A folder without generation_config.json has the generation settings of its config.json (transformers does the same when
it loads a model).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.belongings import GENERATION


def read_generation_config(folder: Path) -> Any:
    """Return the generation config that transformers' `from_pretrained` gives a checkpoint's model.

    Raises:
        CheckpointError: if transformers refuses it.
    """
    from transformers import GenerationConfig

    name = GENERATION if (folder / GENERATION).is_file() else "config.json"
    try:
        if name == GENERATION:
            return GenerationConfig.from_pretrained(folder)
        return GenerationConfig.from_model_config(json.loads((folder / name).read_text(encoding="utf-8")))
    except Exception as error:  # transformers raises almost anything on a broken file
        raise CheckpointError(
            f"transformers cannot read the generation settings in {folder / name}: {' '.join(str(error).split())}; "
            "mend the file"
        ) from error


def generation_json(folder: Path) -> dict[str, Any]:
    """Return the text of a generation_config.json that gives another folder the generation config of this one.

    Raises:
        CheckpointError: if transformers refuses it.
    """
    data: dict[str, Any] = read_generation_config(folder).to_diff_dict()
    return {key: value for key, value in data.items() if not key.startswith("_")}
