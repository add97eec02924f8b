"""What is true of a model type: a tiny random pair of it is merged, saved, loaded, run, and put in a path."""

from __future__ import annotations

import copy
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from any_family import BY_HAND, SKIPPED, families, tiny_config, tiny_model
from tiny_models import recipe, same_bytes, tensors_of

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.model_class import auto_class, build_on_meta, model_kind
from evomerge.merge.live.model import LiveModel
from evomerge.merge.live.models import LiveModels
from evomerge.merge.paths.pattern import pattern_of
from evomerge.merge.paths.placed import path_problems
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Step

IDS = torch.tensor([[5, 7, 11, 13, 17, 19, 23, 29]])
MAPPINGS = {"CAUSAL_LM": "decoders", "SEQ_TO_SEQ_CAUSAL_LM": "encoder-decoders", "MASKED_LM": "encoders"}
"""transformers' mappings whose model types are rows of the matrix, and what their models are."""

HEARS = ("audio", "speech", "asr", "voxtral", "musicflamingo", "seamless", "glmasr", "nemo_speechlm")
"""Parts of the names of model types that listen; they are no text models, though a mapping lists them as such."""

NO_RUN = {"blt": "this release of transformers cannot run the class with a cache"}
"""Model types whose own forward pass or generation fails before anything is merged, and why."""

MOST = 4_000_000
"""How many parameters the tiny model of a type may have, so that no type takes long."""

METHODS: dict[str, dict[str, Any]] = {
    "linear": {"weight": {"a": 0.5, "b": 0.5}},
    "slerp": {"t": 0.3},
    "ties": {"density": 0.5},
}


@dataclass(frozen=True)
class Row:
    """One row of the matrix."""

    model_type: str
    layers: str
    merges: str
    paths: str
    scored_by: str

    def __str__(self) -> str:
        """Return the row as Markdown."""
        return f"| `{self.model_type}` | {self.layers} | {self.merges} | {self.paths} | {self.scored_by} |"


def model_types(mapping: str) -> list[str]:
    """Return the model types of a mapping that belong into the matrix: text models, each in one place."""
    earlier = ("SEQ_TO_SEQ_CAUSAL_LM",) if mapping == "MASKED_LM" else ()
    known = {one for other in earlier for one in families(other)}
    return sorted(one for one in families(mapping) if one not in known and not any(word in one for word in HEARS))


def row_of(model_type: str, mapping: str) -> Row:
    """Return the row of a model type, after having tried everything that it says.

    Raises:
        AssertionError: if a merge is not what it must be; a row has no word for that.
    """
    if model_type in SKIPPED:
        return Row(model_type, "", f"not tried: {SKIPPED[model_type]}", "", "")
    # One that has to be told that it is a decoder is none here.
    encoder = mapping == "MASKED_LM" and "is_decoder" in BY_HAND.get(model_type, {})
    config = tiny_config(model_type, **({"is_decoder": False} if encoder else {}))
    found = families(mapping)[model_type]
    config.architectures = [found[0] if isinstance(found, (tuple, list)) else found]
    size = sum(parameter.numel() for parameter in build_on_meta(config).parameters())
    if size > MOST:
        return Row(
            model_type, "", f"not tried: its smallest model here has {size / 1e6:.0f} million parameters", "", ""
        )
    with tempfile.TemporaryDirectory() as folder:
        made = {name: Path(folder) / name for name in "ab"}
        for seed, one in enumerate(made.values()):
            tiny_model(copy.deepcopy(config), seed).save_pretrained(one)
        architecture = Architecture(config)
        check_merges(made, model_type)
        return Row(
            model_type,
            _layers(architecture, config),
            "yes" if architecture.language.whole else "language part",
            check_paths_of(made),
            {"causal": "`hf`", "image_text": "`hf`", "seq2seq": "`lm-eval`"}.get(model_kind(config), "none"),
        )


def check_merges(made: dict[str, Path], model_type: str) -> None:
    """Merge two models on disk and in memory, load the result, and compare it with a mean that is made by hand."""
    opened = Sources().open(ModelSource(str(made["a"])))
    auto, live = auto_class(opened.config), LiveModel(ModelSource(str(made["a"])))
    places, canonical = opened.architecture.places, opened.architecture.canonical
    base = {"ties": made["a"]}
    for method, parameters in METHODS.items():
        of = recipe(method, base.get(method), made, parameters=parameters)
        out = merge_to_disk(of, made["a"].parent / method)
        loaded, info = auto.from_pretrained(out, output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        live.write(of)
        state = live.model.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items()), method
        live.model.save_pretrained(made["a"].parent / f"{method}-live")
        assert same_bytes(tensors_of(out), tensors_of(made["a"].parent / f"{method}-live")), method
        if method == "linear":
            _check_mean(made, auto, loaded.eval(), places, canonical, model_type)


def _check_mean(made: Any, auto: Any, loaded: Any, places: Any, canonical: Any, model_type: str) -> None:
    models = [auto.from_pretrained(folder).eval() for folder in made.values()]
    a, b = (model.state_dict() for model in models)
    mean = {}
    for name, value in a.items():
        place = places[canonical[name]]
        kept = place.kept or place.buffer or not value.is_floating_point()
        mean[name] = value if kept else value * 0.5 + b[name] * 0.5
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in mean.items())
    by_hand = models[0]
    by_hand.load_state_dict(mean)
    if model_type in NO_RUN:
        return
    inputs = {"input_ids": IDS}
    if by_hand.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = IDS[:, :4]
    with torch.no_grad():
        one, other = (model(**inputs)[0] for model in (by_hand, loaded))
        assert one.isfinite().all()
        assert torch.equal(one, other)
        if model_kind(by_hand.config) in ("causal", "seq2seq", "image_text"):
            options: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
            if by_hand.config.is_encoder_decoder:
                options["decoder_start_token_id"] = 1
            texts = [model.generate(IDS, **options) for model in (by_hand, loaded)]
            assert torch.equal(*texts)


def check_paths_of(made: dict[str, Path]) -> str:
    """Return "yes", after a path over both models computed the same live and from its folder; or why there is none."""
    sources = Sources()
    opened = sources.open(ModelSource(str(made["a"])))
    try:
        problems = path_problems(opened)
    except (CheckpointError, NotImplementedError) as error:
        problems = [str(error)]
    if problems:
        said = re.sub(r"^layers of these models cannot stand.*\n +- model \(.*?\): ", "", problems[0])
        return f"no: {_short(said)}"
    n = opened.architecture.n_layers
    order = [*range(n), n - 1]
    of = recipe("passthrough", None, made, path=tuple(Step("ab"[i % 2], layer) for i, layer in enumerate(order)))
    saved = auto_class(opened.config).from_pretrained(merge_to_disk(of, made["a"].parent / "path")).eval()
    live = LiveModels(sources=sources)
    live.write(of)
    with torch.no_grad():
        torch.testing.assert_close(live.model(IDS)[0], saved(IDS)[0], rtol=1e-3, atol=1e-4)
    return "yes"


def _short(text: str) -> str:
    text = re.split(r"; |, since |\. ", text.replace("|", "/").replace("\n", " "))[0]
    return text if len(text) <= 110 else f"{text[:107].rsplit(' ', 1)[0]} …"


def _layers(architecture: Architecture, config: Any) -> str:
    text = config.get_text_config()
    kinds = set()
    if getattr(text, "num_hidden_layers", None) == architecture.n_layers:
        pattern = pattern_of(text, architecture.n_layers)
        kinds = {pattern.kind(layer) for layer in range(architecture.n_layers)}
    said = [f"{len(architecture.stacks)} stacks"] if len(architecture.stacks) > 1 else []
    said += [f"{len(kinds)} kinds"] if len(kinds) > 1 else []
    said += ["mixers"] if "other" in architecture.summary.layer_roles else []
    said += ["experts"] if any(re.search(r"expert|moe", name) for name in architecture.places) else []
    said += ["tied"] if architecture.tied else []
    return ", ".join(said)
