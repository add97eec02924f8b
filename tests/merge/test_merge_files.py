"""Which files of a folder count: weights as transformers loads them, whole headers, all files of a tokenizer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, make, recipe, same_bytes, tensors_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.errors import CheckpointError, ExportError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.belongings import belongings, is_belonging, names_of_transformers
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint
from evomerge.merge.files.fingerprint import fingerprint
from evomerge.merge.files.header import read_header
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource

# ---- weights


def shards(folder: Path, of: Path) -> None:
    AutoModelForCausalLM.from_pretrained(of).save_pretrained(folder, max_shard_size="6KB")
    assert (folder / "model.safetensors.index.json").is_file()


def put(folder: Path, of: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.copy(of / "model.safetensors", folder / name)


def explicit(folder: Path, other: Path) -> None:
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    put(folder, other, "model.safetensors")
    edit_config(folder, transformers_weights="mine.safetensors")


def explicit_index(folder: Path, other: Path) -> None:
    single = (folder / "model.safetensors").read_bytes()
    shards(folder, folder)
    (folder / "model.safetensors.index.json").rename(folder / "parts.safetensors.index.json")
    (folder / "model.safetensors").write_bytes(single)
    edit_config(folder, transformers_weights="parts.safetensors.index.json")


def stale_shards(folder: Path, other: Path) -> None:
    single = (folder / "model.safetensors").read_bytes()
    shards(folder, other)
    (folder / "model.safetensors").write_bytes(single)


def beside(name: str) -> Callable[[Path, Path], None]:
    return lambda folder, other: put(folder, other, name)


LAYOUTS: dict[str, Callable[[Path, Path], None]] = {
    "one file beside shards of an earlier save": stale_shards,
    "shards alone": lambda folder, other: shards(folder, folder),
    "a file that config.json names": explicit,
    "an index that config.json names": explicit_index,
    "consolidated beside": beside("consolidated.safetensors"),
    "a variant beside": beside("model.fp16.safetensors"),
    "an adapter beside": beside("adapter_model.safetensors"),
    "a pickle beside": lambda folder, other: torch.save(
        load_file(other / "model.safetensors"), folder / "pytorch_model.bin"
    ),
    "another format in a subfolder": beside("original/model.safetensors"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_weights_are_those_that_transformers_loads(layout: str, tmp_path: Path) -> None:
    folder, other = make(tmp_path / "m", 0), make(tmp_path / "other", 1)
    LAYOUTS[layout](folder, other)
    wanted = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    checkpoint = SafetensorsCheckpoint(folder)
    assert all(torch.equal(checkpoint.load(name), wanted[name]) for name in wanted)
    merge_to_disk(recipe("linear", None, {"m": folder}), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(merged[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("name", ["../m2/model.safetensors", "none.safetensors", "model.bin", 3])
def test_weights_that_config_names_wrongly_are_refused(name: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    make(tmp_path / "m2", 1)
    edit_config(folder, transformers_weights=name)
    with pytest.raises(CheckpointError, match=r"config\.json names .* as its weights"):
        SafetensorsCheckpoint(folder)


# ---- damaged files


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any], data: Callable[[bytes], bytes] = bytes) -> None:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    made = change(json.loads(raw[8 : 8 + length]))
    text = made if isinstance(made, bytes) else json.dumps(made).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data(raw[8 + length :]))


def entry(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    """Change what the header says about one tensor."""
    return lambda header: {**header, "model.norm.weight": {**header["model.norm.weight"], **changes}}


def shifted(header: dict[str, Any]) -> dict[str, Any]:
    for one in (value for key, value in header.items() if key != "__metadata__"):
        one["data_offsets"] = [place + 4 for place in one["data_offsets"]]
    return header


def swapped(header: dict[str, Any]) -> dict[str, Any]:
    begin, _ = header["lm_head.weight"]["data_offsets"]
    header["model.norm.weight"]["data_offsets"] = [begin, begin + 64]
    return header


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], Callable[[bytes], bytes], str]] = {
    "no JSON": (lambda header: b"{x", bytes, "its header is not JSON"),
    "a list": (lambda header: [1], bytes, "does not begin with a brace"),
    "no UTF-8": (lambda header: b'{"\xff": 1}', bytes, "its header is not JSON"),
    "deep": (lambda header: b'{"a":' + b"[" * 200_000, bytes, "its header is not JSON"),
    "a name twice": (
        lambda header: json.dumps(header)[:-1].encode() + b', "lm_head.weight": {}}',
        bytes,
        "'lm_head.weight' is there twice",
    ),
    "an entry that is none": (lambda header: {**header, "x": 3}, bytes, "tensor 'x' is described by 3"),
    "an unknown type": (entry(dtype="F31"), bytes, "'model.norm.weight' is of type 'F31'"),
    "no type": (entry(dtype=None), bytes, "is of type None"),
    "a negative size": (entry(shape=[-16]), bytes, r"the shape \[-16\]"),
    "a size that is no number": (entry(shape=["16"]), bytes, "which is no list of sizes"),
    "another size": (entry(shape=[17]), bytes, r"takes 64 bytes, but its shape \[17\] in F32 needs 68"),
    "a size of zero": (entry(shape=[0]), bytes, r"takes 64 bytes, but its shape \[0\] in F32 needs 0"),
    "one offset": (entry(data_offsets=[0]), bytes, "no range of bytes"),
    "offsets backwards": (entry(data_offsets=[64, 0]), bytes, "takes -64 bytes"),
    "offsets beyond everything": (entry(data_offsets=[1 << 40, (1 << 40) + 64]), bytes, "begin at"),
    "an overlap": (swapped, bytes, "begin at"),
    "a hole": (shifted, lambda data: b"\0" * 4 + data, "begin at"),
    "metadata that are none": (
        lambda header: {**header, "__metadata__": {"format": 1}},
        bytes,
        "its metadata are {'format': 1} instead of texts",
    ),
    "bytes too many": (dict, lambda data: data + b"\0", "1 bytes after its last tensor"),
    "bytes too few": (dict, lambda data: data[:-1], "is cut short"),
}


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_with_its_name_and_its_fault(damage: str, sharded: bool, tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    path = folder / "model.safetensors"
    if sharded:
        path = path.rename(folder / "model-00001-of-00001.safetensors")
        places = dict.fromkeys(load_file(path), path.name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    change, data, message = DAMAGES[damage]
    rewrite(path, change, data)
    with pytest.raises(CheckpointError, match=message) as caught:
        merge_to_disk(recipe("linear", None, {"m": folder}), tmp_path / "out")
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"abc", (1 << 60).to_bytes(8, "little") + b"{}"])
def test_a_file_without_a_header_is_refused(content: bytes, tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is (empty|not a whole safetensors file)"):
        Sources().open(ModelSource(str(folder)))


def test_a_tensor_without_entries_reads_as_one(tmp_path: Path) -> None:
    save_file({"none": torch.zeros(0, 3), "one": torch.ones(1)}, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors")["none"]["shape"] == [0, 3]
    folder = make(tmp_path / "m", 0)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "model.norm.weight": torch.zeros(0)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.norm.weight has shape \(0,\)"):
        merge_to_disk(recipe("linear", None, {"m": folder}), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../other/model.safetensors", "outside of its folder"),
        ("/etc/hostname.safetensors", "outside of its folder"),
        ("sub/../../other/model.safetensors", "outside of its folder"),
        ("..\\other\\model.safetensors", "outside of its folder"),
        ("model\0.safetensors", "outside of its folder"),
        ("", "outside of its folder"),
        ("x" * 5000 + ".safetensors", "lacks x"),
        ("pytorch_model.bin", "safetensors files were expected"),
        (7, "not an index of safetensors files.*7 is no name of a file"),
        (None, "not an index of safetensors files"),
    ],
)
def test_an_index_that_names_no_file_of_its_folder_is_refused(name: Any, message: str, tmp_path: Path) -> None:
    folder, other = make(tmp_path / "m", 0), make(tmp_path / "other", 1)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    weight_map = dict.fromkeys(load_file(other / "model.safetensors"), name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=message):
        merge_to_disk(recipe("linear", None, {"m": folder}), tmp_path / "out")


@pytest.mark.parametrize("case", ["moved", "unlisted"])
def test_an_index_that_says_something_else_than_the_shards_is_refused(case: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    shards(folder, folder)
    index = folder / "model.safetensors.index.json"
    (folder / "model.safetensors").unlink(missing_ok=True)
    data = json.loads(index.read_text())
    first, *others = dict.fromkeys(data["weight_map"].values())
    name = next(key for key, file in data["weight_map"].items() if file == first)
    if case == "moved":
        data["weight_map"][name] = others[0]
    else:
        del data["weight_map"][name]
    index.write_text(json.dumps(data))
    message = (
        "lacks|places in another file" if case == "moved" else f"holds {name}, which the index of .* places nowhere"
    )
    with pytest.raises(CheckpointError, match=message):
        SafetensorsCheckpoint(folder)


# ---- tokenizers and processors


def test_every_file_of_every_tokenizer_class_is_known() -> None:
    names = names_of_transformers()
    assert {"tokenizer.model", "merges.txt", "preprocessor_config.json", "chat_template.jinja"} <= names
    assert [name for name in sorted(names) if not is_belonging(name)] == []
    for name in ("README.md", "config.json", "generation_config.json", "model.safetensors", "pytorch_model.bin",
                 "notes.json", "training_args.bin", ".env", "recipe.yaml", "evil/tokenizer.json"):  # fmt: skip
        assert not is_belonging(name), name


def test_a_name_of_another_release_is_asked_of_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_belonging("syllables.json")
    monkeypatch.setattr("evomerge.merge.files.belongings.names_of_transformers", lambda: frozenset({"syllables.json"}))
    assert is_belonging("syllables.json")


def with_side_files(folder: Path) -> dict[str, str]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "tools: {{ messages }}"}
    tokenizer.add_tokens(["xyz"])
    tokenizer.save_pretrained(folder)
    texts = {
        "tokenizer.model": "pieces", "bpe.codes": "a b", "preprocessor_config.json": "{}",
        "processor_config.json": "{}", "video_preprocessor_config.json": "{}", "tokenizer.4.0.json": "{}",
        "vocab-src.json": "{}", "tekken.json": "{}",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "notes.json").write_text("private")
    return {**texts, "additional_chat_templates/tool_use.jinja": "tools: {{ messages }}"}


@pytest.mark.parametrize("general", [False, True])
def test_a_merge_brings_every_file_of_its_tokenizer(general: bool, tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    texts = with_side_files(folder)
    merge_to_disk(recipe("linear", None, {"m": folder}), tmp_path / "out", sources=Sources() if general else None)
    out = tmp_path / "out"
    assert {name: (out / name).read_text() for name in texts} == texts
    assert not (out / "notes.json").exists()
    mine, theirs = (AutoTokenizer.from_pretrained(each) for each in (out, folder))
    assert mine.chat_template == theirs.chat_template
    assert mine("a b xyz c")["input_ids"] == theirs("a b xyz c")["input_ids"]


CODE = """
from transformers import PreTrainedTokenizer


class Mine(PreTrainedTokenizer):
    vocab_files_names = {"vocab_file": "letters.list"}

    def __init__(self, vocab_file, **options):
        self._letters = open(vocab_file).read().split()
        super().__init__(**options)

    @property
    def vocab_size(self):
        return len(self._letters)

    def get_vocab(self):
        return {letter: i for i, letter in enumerate(self._letters)}

    def _tokenize(self, text):
        return list(text)

    def _convert_token_to_id(self, token):
        return self._letters.index(token)

    def _convert_id_to_token(self, index):
        return self._letters[index]
"""


def test_a_tokenizer_with_code_of_its_own_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = make(tmp_path / "m", 0)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["tokenization_mine.Mine", None]}, "tokenizer_class": "Mine"})
    )
    (folder / "tokenization_mine.py").write_text(CODE)
    (folder / "letters.list").write_text("c b a")
    source = {"path": str(folder), "trust_remote_code": True}
    made = recipe("linear", None, {"m": folder}).to_data() | {"parents": {"m": source}}
    merge_to_disk(type(recipe("linear", None, {"m": folder})).from_data(made), tmp_path / "out")
    own = AutoTokenizer.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert own("abc", add_special_tokens=False)["input_ids"] == [2, 1, 0]
    # Without trust its class is not imported, so that its file is not known to belong to it.
    assert "letters.list" not in belongings(folder)
    assert "letters.list" in belongings(folder, trust_remote_code=True)


def test_two_different_files_of_code_with_one_name_are_refused(tmp_path: Path) -> None:
    one, other = make(tmp_path / "a", 0), make(tmp_path / "b", 1)
    for folder in (one, other):
        (folder / "code.py").write_text(f"# {folder.name}")
    sources = {name: {"path": str(tmp_path / name), "trust_remote_code": True} for name in "ab"}
    data = {"method": "linear", "parents": sources, "tokenizer": "b"}
    with pytest.raises(ExportError, match=r"both bring a file code\.py, but not the same one"):
        merge_to_disk(type(recipe("linear", None, {"m": one})).from_data(data), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- fingerprints


def test_a_fingerprint_covers_what_decides_answers_and_nothing_else(tmp_path: Path) -> None:
    folder, other = make(tmp_path / "m", 0), make(tmp_path / "other", 1)
    before = fingerprint(folder)
    (folder / "README.md").write_text("hello")
    put(folder, other, "consolidated.safetensors")
    stale_shards(folder, other)
    settings = (folder / "generation_config.json").read_text()
    (folder / "config.json").write_bytes((make(tmp_path / "again", 0) / "config.json").read_bytes())
    (folder / "generation_config.json").unlink()
    assert fingerprint(folder) == before
    seen = {before}
    for name, text in {
        "generation_config.json": settings,
        "additional_chat_templates/tool.jinja": "x",
        "chat_template.jinja": "x",
        "spiece.model": "x",
        "bpe.codes": "x",
        "preprocessor_config.json": "{}",
        "modeling_own.py": "vocabulary = 'letters.list'",
        "letters.list": "a b",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        seen.add(fingerprint(folder))
    assert len(seen) == 9
    (folder / "model.safetensors").unlink()  # now the shards count
    assert fingerprint(folder) not in seen
    assert same_bytes(load_file(other / "model.safetensors"), tensors_of_index(folder))


def tensors_of_index(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = SafetensorsCheckpoint(folder)
    assert tensors_of(folder).keys() >= checkpoint.infos.keys()
    return {name: checkpoint.load(name) for name in checkpoint.infos}
