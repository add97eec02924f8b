"""The built-in zoo: three tiny models of one family, and the tasks they are measured on.

======================  ===========================================================================
``grammar``             stories as sentence templates, each in English and Japanese; the splits
``documents``           what the base and each expert are trained on, as mixes of documents
``items``, ``answers``  the items of the tasks; how an answer is judged
``tokenizer``           the tokenizer of all models
``muon``, ``training``  the optimizer; the training of one model
``train``, ``figures``  the script that makes everything in ``models/``; what the models score
``models/``             the checkpoints: ``base``, ``math`` (English), ``japanese``
``tasks/``              lm-eval tasks over the items
======================  ===========================================================================

``README.md`` beside this file has the figures. Importing this module loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

MODELS = ("base", "math", "japanese")

_FOLDER = Path(__file__).parent


def zoo_path(name: str) -> Path:
    """Return the folder of a shipped model, ready for ``from_pretrained``.

    Raises:
        ValueError: if there is no such model.
    """
    if name not in MODELS:
        raise ValueError(f"the zoo has no model {name!r}; it has {', '.join(MODELS)}")
    return _FOLDER / "models" / name


def tasks_path() -> Path:
    """Return the folder with the lm-eval tasks, ready for ``--include_path``."""
    return _FOLDER / "tasks"


__all__ = ["MODELS", "tasks_path", "zoo_path"]
