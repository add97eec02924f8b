"""Which transformers class a configuration is for, and a model of that class without weights."""

from __future__ import annotations

from typing import Any

import torch

from evomerge.errors import CheckpointError


def auto_class(config: Any) -> Any:
    """Return the Auto class of transformers that builds and loads the models of a configuration."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


def build_on_meta(config: Any, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """Return a model of a configuration on the meta device: modules and shapes, no values.

    Args:
        config: the configuration.
        trust_remote_code: whether its custom code may run.
        options: further arguments of `from_config`.

    Raises:
        CheckpointError: if transformers cannot build it.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    try:
        with torch.device("meta"):
            return auto_class(config).from_config(config, trust_remote_code=trust_remote_code, **options)
    except ImportError as error:
        raise CheckpointError(f"the model class of {kind!r} needs a package: {error}") from error
    except Exception as error:  # a configuration can break its model class in any way
        raise CheckpointError(
            f"transformers cannot build a causal language model of type {kind!r} from its config.json: {error}"
        ) from error
