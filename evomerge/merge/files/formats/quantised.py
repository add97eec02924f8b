"""By which method a checkpoint is quantised, as its config.json says, and what can be done with it.

Floating-point weights of 8 bits with scales are read exactly (`fp8.py`). Of the others a merge would need the
arithmetic of a library of their own, mostly on a GPU, and would inherit an error that the unquantised model does not
have; so they are refused with the way to the model that can be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.errors import CheckpointError

KEYS = ("quantization_config", "compression_config")
"""The keys of config.json under which a quantisation is described; the second is that of older compressed-tensors."""

_FP8 = frozenset({"fp8", "fbgemm_fp8", "compressed-tensors"})
"""Methods that can store 8-bit floating-point weights with scales."""

_KNOWN = {
    "aqlm": "AQLM (codebooks of 1 to 2 bits)",
    "auto-round": "AutoRound (integers of 2 to 8 bits, tuned on data)",
    "awq": "AWQ (4-bit integers, scaled by activations)",
    "bitnet": "BitNet (ternary weights)",
    "bitsandbytes": "bitsandbytes (8-bit integers or 4-bit numbers)",
    "eetq": "EETQ (8-bit integers)",
    "fp_quant": "FP-Quant (4-bit floating point)",
    "gptq": "GPTQ (integers of 2 to 8 bits, tuned on data)",
    "higgs": "HIGGS (vector codes of 2 to 4 bits)",
    "hqq": "HQQ (integers of 1 to 8 bits)",
    "modelopt": "ModelOpt (8- or 4-bit numbers)",
    "mxfp4": "MXFP4 (4-bit floating point in blocks of 32)",
    "mxfp8": "MXFP8 (8-bit floating point in blocks of 32)",
    "nvfp4": "NVFP4 (4-bit floating point in blocks of 16)",
    "quanto": "Quanto (integers of 2 to 8 bits)",
    "quark": "Quark (8- or 4-bit numbers)",
    "spqr": "SpQR (integers of 3 to 4 bits with outliers)",
    "torchao": "TorchAO (integers or floating point of 4 to 8 bits)",
    "vptq": "VPTQ (vector codes of 1 to 4 bits)",
}
_WAYS = {
    "bitsandbytes": "AutoModelForCausalLM.from_pretrained(folder).dequantize().save_pretrained(new_folder)",
    "mxfp4": "AutoModelForCausalLM.from_pretrained(folder, quantization_config=Mxfp4Config(dequantize=True))"
    ".save_pretrained(new_folder)",
}
"""How transformers writes the unquantised model of a method, where it can."""


def quantisation_of(config: Any) -> dict[str, Any] | None:
    """Return what a transformers configuration says of a quantisation, or None if it says nothing.

    Args:
        config: the configuration, of a whole model or of its language part.
    """
    for place in _places(config):
        for key in KEYS:
            said = place.get(key) if isinstance(place, Mapping) else getattr(place, key, None)
            if said is not None:
                found = said if isinstance(said, Mapping) else said.to_dict()
                return dict(found)
    return None


def forget_quantisation(config: Any) -> None:
    """Take what a configuration, or the data of a config.json, says of a quantisation out of it, in place.

    Whoever reads the tensors gets numbers; a model that is built, or written, from this configuration holds numbers.
    """
    for place in _places(config):
        for key in KEYS:
            if isinstance(place, dict):
                place.pop(key, None)
            elif key in vars(place):
                delattr(place, key)


def _places(config: Any) -> list[Any]:
    """Return a configuration and the configurations inside of it."""
    inside = config.values() if isinstance(config, Mapping) else vars(config).values()
    kind = Mapping if isinstance(config, Mapping) else _configuration_class()
    return [config, *(one for one in inside if isinstance(one, kind))]


def _configuration_class() -> type:
    from transformers import PretrainedConfig

    found: type = PretrainedConfig
    return found


def fp8_blocks(quantisation: Mapping[str, Any], label: str) -> tuple[int, int] | None:
    """Return the block size (rows, columns) that each scale of an fp8 checkpoint stands for; None: it follows.

    Args:
        quantisation: what `quantisation_of` returned.
        label: the model in messages.

    Raises:
        CheckpointError: if the weights are no 8-bit floating-point numbers with scales, with the reason and a way out.
    """
    method = str(quantisation.get("quant_method", "")).lower()
    if method not in _FP8:
        raise CheckpointError(_refusal(method, label))
    if method == "compressed-tensors":
        return _compressed_blocks(quantisation, label)
    if str(quantisation.get("expert_dtype", "fp8")) != "fp8":
        raise CheckpointError(_refusal(f"fp8 with experts in {quantisation['expert_dtype']}", label))
    return _block_size(quantisation.get("weight_block_size"), "weight_block_size", label)


def _compressed_blocks(quantisation: Mapping[str, Any], label: str) -> tuple[int, int] | None:
    sizes: set[tuple[int, int] | None] = set()
    groups = quantisation.get("config_groups")
    schemes = [group.get("weights") for group in groups.values()] if isinstance(groups, Mapping) else []
    for scheme in schemes:
        if not isinstance(scheme, Mapping):
            raise CheckpointError(_refusal("compressed-tensors without a scheme for weights", label))
        kind, bits = scheme.get("type"), scheme.get("num_bits")
        if kind != "float" or bits != 8 or scheme.get("symmetric", True) is not True:
            how = "" if scheme.get("symmetric", True) is True else ", asymmetric"
            raise CheckpointError(_refusal(f"compressed-tensors ({bits}-bit {kind}{how})", label))
        sizes.add(_block_size(scheme.get("block_structure"), "block_structure", label))
    if not schemes:
        raise CheckpointError(_refusal(f"compressed-tensors ({quantisation.get('format')})", label))
    if len(sizes) > 1:
        raise CheckpointError(
            f"{label} is quantised by compressed-tensors in blocks of several sizes, which is not read; merge the "
            "model that it was made from, and quantise the result"
        )
    return sizes.pop()


def _block_size(said: Any, key: str, label: str) -> tuple[int, int] | None:
    if isinstance(said, str):  # "128x128", as older files spell it
        said = [int(one) if one.isdigit() else one for one in said.lower().split("x")]
    if said is None:
        return None
    if not (
        isinstance(said, (list, tuple))
        and len(said) == 2
        and all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in said)
    ):
        raise CheckpointError(f"config.json of {label} says {key}: {said!r}; two sizes were expected, rows and columns")
    return said[0], said[1]


def _refusal(method: str, label: str) -> str:
    what = _KNOWN.get(method, method) or "a method that its config.json does not name (quant_method)"
    wrote = f", or write its numbers out with transformers: {_WAYS[method]}" if method in _WAYS else ""
    return (
        f"{label} is quantised by {what}, and cannot be merged as it is. Merge the unquantised model that it was made "
        f"from (its model card mostly names it as base_model){wrote}; then quantise the result"
    )
