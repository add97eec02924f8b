"""Names of tasks, groups and tags are lm-eval's own, whatever a file looks like, and are kept from start to start."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from evomerge.errors import ConfigError
from evomerge.evaluation import index
from evomerge.evaluation.catalog import TaskCatalog, check
from evomerge.evaluation.index import load, local
from evomerge.evaluation.task import TaskSpec

BODY = {
    "dataset_path": "nowhere/at_all",
    "output_type": "multiple_choice",
    "doc_to_text": "Read this.\n\ntask: answer\ngroup: nobody\ntag: none\n",
}


def body(**more: object) -> str:
    """A task's YAML with a prompt that looks like keys of a task."""
    lines = "".join(f"{key}: {json.dumps(value)}\n" for key, value in {**BODY, **more}.items())
    return lines.replace(
        json.dumps(BODY["doc_to_text"]), '"Read this.\n\n\ntask: answer\n\n\ngroup: nobody\n\n\n{{q}}"'
    )


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """Files that a pattern over their lines misreads."""
    folder = tmp_path / "strange"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "_leaf").write_text("tag:\n- far_tag\n- second tag\n")
    (folder / "deep" / "_middle").write_text("include: ../_leaf\noutput_type: multiple_choice\n")
    texts: dict[str, bytes] = {
        "bom.yaml": b"\xef\xbb\xbf" + body(task="bom").encode(),
        "utf16.yaml": body(task="sixteen").encode("utf-16"),
        "windows.yaml": body(task="windows").replace("\n", "\r\n").encode(),
        "json.yaml": json.dumps({**BODY, "task": "as json", "tag": ["one tag"]}).encode(),
        "deep/deeper/tagged.yaml": body(include="../_middle", task="tagged").encode(),
        "anchors.yaml": b"x: &x {output_type: multiple_choice, tag: anchored}\n<<: *x\ntask: merged\n",
        "folded.yaml": b"task: >-\n  folded\n  name\noutput_type: multiple_choice\n",
        "group.yaml": (
            b"group: all of them\ntask:\n- bom\n- {task: as json, num_fewshot: 2}\n- group: inner\n  task: [far_tag]\n"
            b"- {task: made here, dataset_path: x}\n- all of them\n"
        ),
        "twice_a.yaml": body(task="twice", num_fewshot=1).encode(),
        "twice_b.yaml": body(task="twice", num_fewshot=2).encode(),
        "python.yaml": b"task: in_python\nclass: !function code.Task\n",
        "other.yml": body(task="not_read").encode(),
        "number.yaml": b"task: 12\n",
        "circle.yaml": b"include: circle.yaml\ntask: circle\n",
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return folder


def test_names_are_those_that_lm_eval_finds_and_no_others(strange: Path) -> None:
    found = {name: one.kind for name, one in local(strange).items()}
    tasks = ["bom", "sixteen", "windows", "as json", "tagged", "merged", "folded name", "twice", "in_python"]
    tags = ["far_tag", "second tag", "one tag", "anchored"]
    assert found == {**dict.fromkeys(tasks, "task"), **dict.fromkeys(tags, "tag"), "all of them": "group"}


def test_a_group_is_told_with_all_of_its_tasks_and_a_tag_of_an_included_file_too(strange: Path) -> None:
    (group,) = check([TaskSpec("all of them", "acc")], [strange])
    assert "is a group of 3 tasks, not a task; list the tasks that should count: bom, as json, tagged;" in group
    (tag,) = check([TaskSpec("second tag", "acc")], [strange])
    assert tag == "'second tag' is a tag of 1 tasks, not a task; list the tasks that should count: tagged"


def test_files_that_lm_eval_skips_are_named_where_a_name_is_missing(strange: Path) -> None:
    (problem,) = check([TaskSpec("not_read", "acc")], [strange])
    assert "unknown lm-eval task 'not_read'" in problem
    for said in ("other.yml does not end in .yaml", "has the name 12, which is no text", "circle.yaml is not valid"):
        assert said in problem


def test_the_first_file_of_a_folder_and_the_last_folder_win_as_in_lm_eval(strange: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (later / "x.yaml").write_text("task: bom\ntag: far_tag\n")
    catalog = TaskCatalog([strange, later])
    twice, bom, tag = (catalog.find(name) for name in ("twice", "bom", "far_tag"))
    assert twice is not None and twice.path is not None and load(twice.path)["num_fewshot"] == 1
    assert bom is not None and bom.path == later / "x.yaml"
    assert tag is not None and catalog.members(tag) == ["bom"]  # the later folder's tag, not both together


def test_a_single_file_can_be_included(strange: Path) -> None:
    assert list(local(strange / "json.yaml")) == ["as json", "one tag"]
    assert local(strange / "circle.yaml") == {}


def test_functions_stay_text_and_broken_files_are_named(strange: Path) -> None:
    assert index.function_name(load(strange / "python.yaml")["class"]) == "Task"
    with pytest.raises(ConfigError, match=r"circle\.yaml is not valid YAML: Include cycle"):
        load(strange / "circle.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load(strange / "gone.yaml")


@pytest.fixture
def kept(strange: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that holds the names of `strange`, which counts as a large folder here."""
    monkeypatch.setattr(index, "_LARGE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local(strange)
    (file,) = (tmp_path / "cache" / "evomerge").iterdir()
    return file


def test_names_of_a_large_folder_are_read_once(strange: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = local(strange)
    monkeypatch.setattr(index, "_read", None)
    assert local(strange) == before


def test_any_changed_file_makes_the_names_be_read_again(strange: Path, kept: Path) -> None:
    (strange / "_leaf").write_text("tag: renamed\n")
    found = local(strange)
    assert "renamed" in found and "far_tag" not in found
    (strange / "bom.yaml").unlink()
    assert "bom" not in local(strange)
    assert len(list(kept.parent.iterdir())) == 1  # the older one is replaced


def test_a_damaged_file_of_names_is_made_again(strange: Path, kept: Path) -> None:
    whole = kept.read_bytes()
    for damaged in (b"", whole[:-5], whole.replace(b"sixteen", b"fifteen"), b"\xff" + whole, whole.split(b"\n")[0]):
        kept.write_bytes(damaged)
        assert "sixteen" in local(strange) and kept.read_bytes() == whole


def test_names_are_found_without_a_place_to_keep_them(
    strange: Path, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert "sixteen" in local(strange)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os, "environ", {key: value for key, value in os.environ.items() if key != "HOME"})
    monkeypatch.setattr(Path, "home", _no_home)
    assert "sixteen" in local(strange)


def _no_home() -> Path:
    raise RuntimeError("no home")


@pytest.mark.parametrize(
    "text",
    [
        "x: &a [*a]\n",
        "metadata: &a {version: 1, more: [*a]}\n",
        "include: other.yaml\n",
        "x: " + "[" * 3000 + "]" * 3000 + "\n",
        "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    ],
    ids=["in itself", "in its own mapping", "in an included file", "deep", "multiplied"],
)
def test_a_file_that_cannot_be_walked_through_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "round.yaml"
    path.write_text(text + "task: round\noutput_type: multiple_choice\ndataset_path: json\n")
    (tmp_path / "other.yaml").write_text("y: &a\n  inner: {z: *a}\n")
    (tmp_path / "group.yaml").write_text("group: groups\ntask: &a\n- {group: inner, task: *a}\n")
    for name in ("round", "groups"):
        problems = check([TaskSpec(name, "acc")], [tmp_path])
        assert len(problems) == 1 and f"{'round' if name == 'round' else 'group'}.yaml" in problems[0]


def test_an_alias_that_is_used_twice_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("task: twice\nx: &a [1, {b: 2}]\ny: [*a, *a]\n")
    assert load(path)["y"] == [[1, {"b": 2}]] * 2
