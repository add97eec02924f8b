"""From words and files to a configuration: what works whatever it is called, and mistakes that end in one error."""

import os
from pathlib import Path
from typing import Any

import pytest

from evomerge.cli.compose import compose
from evomerge.cli.main import main
from evomerge.errors import ConfigError

NAMES = [
    *("epoch=3-step=100", "日本語", "v1 (final)", "a,b", "[x]", "{a: b", "it's", '"', "a b", "a\\b", "x:y"),
    *("$HOME", "1e3", "no", "true", "2024-01-01", "~/x", "a'b\"c\\", "(", "x\ny", "a;b", "%", "a@b", "*", "int(3)"),
    *("0x10", "1_000", "é=ü"),
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def mistakes(*words: str) -> str:
    with pytest.raises(ConfigError) as found:
        compose(words)
    assert list(Path().glob("outputs")) == []
    return str(found.value)


@pytest.mark.parametrize("name", NAMES)
def test_text_in_an_override_is_text_as_typed(name: str) -> None:
    words = ["zoo_ja_math", f"models.parents.math={name}", f"name={name}", f"models.base={name}"]
    data = compose(words)
    assert (data["models"]["parents"]["math"], data["name"], data["models"]["base"]) == (name, name, name)


@pytest.mark.parametrize("name", ["日本語", "a b", "[/red]", "no", "1", "1e3", "null", "x(1)"])
def test_a_key_may_be_a_name_in_any_script(name: str) -> None:
    assert compose(["zoo_ja_math", f"models.parents.{name}=zoo:math"])["models"]["parents"][name] == "zoo:math"


def test_quotes_numbers_lists_and_mappings_are_read_as_before() -> None:
    data = compose(
        [
            *("zoo_ja_math", "seed=3", "models.parents.math='a,b'", "models.base={path: x, revision: abc}"),
            *("space.path.parents=[no,1,1e3,日本]", "evaluation.tasks=[{name:t,metric:'python:/x,y:f'}]", "+seed=4"),
        ][:-1]
    )
    assert data["seed"] == 3 and data["models"]["parents"]["math"] == "a,b"
    assert data["models"]["base"] == {"path": "x", "revision": "abc"}
    assert data["space"]["path"]["parents"] == ["no", "1", "1e3", "日本"]
    assert data["evaluation"]["tasks"] == [{"name": "t", "metric": "python:/x,y:f"}]
    data = compose(["zoo_ja_math", "evaluation.tasks=[{name: 日本, metric: 'a=b'}]"])
    assert data["evaluation"]["tasks"] == [{"name": "日本", "metric": "a=b"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=0,1,2"], "`seed=0,1,2` is several values: add -m"),
        (["name=choice(a,b)"], "add -m"),
        (["evaluation.tasks=[{name:日本"], r"quotes: 'evaluation.tasks="),
        (["name=${"], "is not whole"),
        (["name=${nothing}"], "`name` cannot be resolved"),
        (["name=${seed", "models.base=${a.b"], "2 mistakes"),
        (["optimizer=cmaa"], "did you mean 'cma'"),
        (["optimizer=日本"], "unknown optimizer '日本'"),
        (["experiment=null"], "unknown experiment"),
        (["execution=[1]"], ""),
        (["hydra=1"], ""),
        (["=3"], "no key before its ="),
        (["~~"], "no override"),
        (["~nothing"], "nothing"),
        (["models.parents=???"], "`models.parents` is ???, so it must be given"),
        (["--nothing"], "unknown option --nothing"),
        (["seed"], "unknown experiment or YAML file 'seed'"),
    ],
)
def test_an_override_that_cannot_be_read_is_named(words: list[str], said: str) -> None:
    assert said in mistakes("zoo_ja_math", *words)


FILES = [
    "search.yaml",
    "config.yaml",
    "resume.yaml",
    "a=b.yaml",
    "two words.v1.yaml",
    "日本.yml",
    "plain",
    "zoo_ja_math.yaml",
]
HEADS = ["", "defaults: [search, _self_]\n", "\ufeff", "# @package _global_\r\n"]


@pytest.mark.parametrize(
    ("name", "head"), [*((name, HEADS[i % 2]) for i, name in enumerate(FILES)), *zip(FILES, HEADS, strict=False)]
)
def test_a_users_file_is_read_whatever_its_name(name: str, head: str) -> None:
    Path(name).write_text(f"{head}name: mine\noptimizer: {{sigma: 0.1}}\n", encoding="utf-8")
    for words in ([name, "seed=5"], [str(Path(name).absolute()), "seed=5"], ["seed=5", name]):
        data = compose(words)
        assert (data["name"], data["seed"], data["optimizer"]["name"], data["optimizer"]["sigma"]) == (
            "mine",
            5,
            "cma",
            0.1,
        )
        assert data["evaluation"]["finalists"] == 8


def test_files_beside_the_users_file_are_read_in_the_same_way() -> None:
    Path("experiment").mkdir()
    Path("experiment/mine.yaml").write_text("# @package _global_\nmodels: {parents: {on: 0x10}}\n")
    Path("optimizer").mkdir()
    Path("optimizer/steep.yaml").write_text("name: random\nflag: yes\n")
    Path("child.yaml").write_text("models: {parents: {no: 1e3}, tokenizer: no}\n")
    Path("top.yaml").write_text("defaults: [search, child, _self_]\nname: 2024-01-01\n")
    data = compose(["top.yaml", "experiment=mine", "optimizer=steep"])
    assert data["models"]["parents"] == {"no": "1e3", "on": "0x10"}
    assert (data["models"]["tokenizer"], data["name"], data["optimizer"]) == (
        "no",
        "2024-01-01",
        {"name": "random", "flag": True},
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: : b", "line 1, column 4"),
        ("models:\n\tbase: x", "indent with spaces"),
        ("name: a\nname: b", "stands here again"),
        ("x: &a [*a]", "refers to itself"),
        ("x: !!python/object/apply:os.system ['true']", "the tag !!python/object/apply:os.system is not read"),
        ("", "is empty"),
        ("# nothing", "is empty"),
        ("- a\n- b", "must hold keys"),
        ("hello", "must hold keys"),
        (b"name: \xe9\xff", "not UTF-8"),
        ("name: a\n---\nname: b", "second document"),
        ("defaults: [nosuch, _self_]", "In mine.yaml: Could not load 'nosuch'"),
        ("defaults: search", "must be a list"),
        ("defaults: [1, {a: [b]}]", ""),
        ("defaults: [search, optimizer: zzz, _self_]", "Could not find 'optimizer/zzz'"),
        ("name: ${", "`name` holds a reference that is not whole"),
        (
            "name: ${a.b}\nseed: ${oc.env:NO_SUCH_THING}\nmodels:\n  parents: {a: x, b: '???'}",
            "`models.parents.b` is ???",
        ),
        ("name: ${seed}\nseed: ${name}", "Recursive"),
        ("models: ${space}\nspace: {x: '${models}'}", ""),
        ("name: ${unknown:1}", "`name` cannot be resolved"),
        ("hydra: 3\nname: x", ""),
        ("hydra: {searchpath: [3]}", "searchpath"),
        ("x: " + "[" * 1200, "too deeply"),
    ],
)
def test_mistakes_of_a_file_are_said(text: str | bytes, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in mistakes("mine.yaml")
    assert main(["search", "mine.yaml"]) == 2
    err = capsys.readouterr().err
    assert "mine.yaml" in err or "`" in err or "hydra" in err.lower()
    assert "Traceback" not in err and "bug" not in err
    assert [path.name for path in Path().iterdir()] == ["mine.yaml"]


def test_references_that_fail_are_all_named_with_what_else_is_wrong() -> None:
    Path("mine.yaml").write_text(
        "name: ${a.b}\nseed: -1\nmodels: {base: '${oc.env:NO_SUCH_THING}'}\nbudgt: {items: 3}\n"
    )
    said = mistakes("mine.yaml")
    for part in (
        "`name` cannot",
        "models.base: ${oc.env:NO_SUCH_THING} has no value",
        "`seed` must",
        "unknown key in the configuration 'budgt'",
    ):
        assert part in said


@pytest.mark.parametrize("beside", ["method: ties", "budget: {candidates: 3}", "defaults: [search, _self_]"])
def test_a_key_of_mergekit_in_a_search_is_an_unknown_key(beside: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(f"merge_method: ties\nmodels: {{parents: {{a: zoo:math}}}}\n{beside}\n")
    assert main(["space", "mine.yaml"]) == 2
    err = capsys.readouterr().err
    assert "unknown key in the configuration 'merge_method'" in err and "recipe of mergekit" not in err


def test_a_recipe_of_mergekit_is_no_search() -> None:
    Path("mine.yaml").write_text(
        "merge_method: ties\nname: a\nmodels: [{model: org/a}]\nbase_model: org/b\ndtype: float16\n"
    )
    assert "recipe of mergekit" in mistakes("mine.yaml")


def test_what_is_no_ordinary_file_is_not_opened() -> None:
    os.mkfifo("pipe.yaml")  # reading it would wait forever
    Path("folder.yaml").mkdir()
    Path("link.yaml").symlink_to("nowhere")
    assert "no ordinary file" in mistakes("pipe.yaml")
    assert "is a folder" in mistakes("folder.yaml")
    for name in ("link.yaml", "none.yaml", "x" * 300 + ".yaml", "a\0.yaml"):
        assert "there is no file" in mistakes(name)
    Path("one.yaml").write_text("name: a")
    Path("two.yaml").write_text("name: b")
    assert "one file is read, but two came" in mistakes("one.yaml", "two.yaml")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["search", *words]) == 0
    return capsys.readouterr().out


def test_the_help_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["zoo_ja_math", "--help"]):
        out = printed(capsys, *words)
        for part in ("evomerge search FILE.yaml", "KEY=VALUE", "-m", "evomerge explain", "zoo_ja_math", "nsga2", "ray"):
            assert part in out
        assert "Hydra's help" not in out and max(map(len, out.splitlines())) <= 120


def test_the_composed_configuration_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "zoo_ja_math", "name=no", "models.parents.1e3=日本", "--cfg", "job")
    Path("again.yaml").write_text(out, encoding="utf-8")
    words: Any = ["zoo_ja_math", "name=no", "models.parents.1e3=日本", "run.dir=x"]
    assert compose(["again.yaml", "run.dir=x"]) == compose(words)
    assert "run:\n  dir: ${" not in printed(capsys, "zoo_ja_math", "--cfg", "job", "--resolve")
    assert printed(capsys, "zoo_ja_math", "-c", "job", "-p", "budget").startswith("candidates: 144")
    assert "seed" in printed(capsys, "zoo_ja_math", "--cfg", "all")
