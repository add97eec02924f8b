"""What parents' cards say goes into the merge's card as text that means only itself; the YAML on top stays whole."""

import re
from pathlib import Path

import pytest
import yaml
from hub_server.writing import metadata_errors
from huggingface_hub import ModelCard

from evomerge.analysis.measured import Measured
from evomerge.evaluation.task_data import TaskData
from evomerge.export.licences import describe_parents
from evomerge.export.model_card import model_card
from evomerge.export.publication import Publication
from evomerge.export.publishing import published_recipe, without_folders
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Score, Split
from evomerge.system.text import markdown

EVIL = "<script>alert(1)</script>"


def card_of(folder: Path, front: dict[str, object], name: str = "evil") -> str:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(
        f"---\n{yaml.safe_dump(front, allow_unicode=True)}---\n# {EVIL}\n", encoding="utf-8"
    )
    recipe = Recipe("linear", (Parent(name, ModelSource(str(folder))),))
    return model_card(recipe, title="merge", parents=describe_parents(recipe))


@pytest.mark.parametrize(
    "front",
    [
        {"license": EVIL, "license_name": "n", "license_link": "https://example.org/a"},
        {"license": "other", "license_name": EVIL, "license_link": f"javascript:{EVIL}"},
        {"license": "other", "license_name": "a\n---\n# injected\n", "license_link": "https://me:pass@example.org/x"},
        {"license": "mit", "license_link": f"https://example.org/{EVIL}"},
        {"license": "mit\nbase_model: stolen/model", "language": [EVIL, "en", "a: b", "---"]},
        {"license": ["mit", "x" * 10_000], "language": ["en"] * 5000},
        {"license": "other", "license_name": "y" * 10_000},
        {"license": {"a": "mapping"}, "language": {"b": 1}, "license_name": 3, "license_link": ["x"]},
        {"license": "other", "license_name": "[click](https://evil.example) | cell ‮ \x1b[2J"},
    ],
)
def test_whatever_a_parents_card_says_the_merges_card_is_whole(front: dict[str, object], tmp_path: Path) -> None:
    text = card_of(tmp_path / "evil", front)
    assert "<script" not in text and "\x1b" not in text and "‮" not in text and len(text) < 10_000
    card = ModelCard(text, ignore_metadata_errors=False)
    data = card.data.to_dict()
    assert data["library_name"] == "transformers" and "base_model" not in data
    assert set(data.get("language", [])) <= {"en"}
    assert not str(data.get("license_link", "https://")).startswith("javascript") and "pass" not in str(data)
    assert text.count("\n# ") == 1, "one heading, which is the title"
    assert "](https://evil" not in text


def test_a_good_licence_keeps_its_link_and_name(tmp_path: Path) -> None:
    front = {
        "license": "other",
        "license_name": "My Licence 1.0",
        "license_link": "https://example.org/LICENSE-1.0?x=1",
    }
    text = card_of(tmp_path / "good", front)
    data = ModelCard(text).data.to_dict()
    assert {key: data[key] for key in front} == {**front, "license_name": "my-licence-1.0"}, "as the Hub asks for"
    assert "My Licence 1.0 (other)" in text


@pytest.mark.parametrize("name", [EVIL, "a|b", "---", "no", "[x](y)", "`", "a\nb"])
def test_a_parents_name_means_only_itself(name: str, tmp_path: Path) -> None:
    text = card_of(tmp_path / "model", {"license": "mit"}, name=name)
    visible, _, recipe = text.partition("<details>")
    assert "<script" not in visible and not re.search(r"(?<!\\)\]\(y\)", visible)
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "mit"
    assert "parents:" in recipe


def test_a_published_recipe_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    for place in ("x/model", "y/model", "z/other"):
        (tmp_path / place).mkdir(parents=True)
    inner = Recipe(
        "/home/me/own.py:METHOD", (Parent("deep", ModelSource(str(tmp_path / "z/other"), trust_remote_code=True)),)
    )
    both = (Parent("a", ModelSource(str(tmp_path / "x/model"))), Parent("b", ModelSource(str(tmp_path / "y/model"))))
    published = published_recipe(Recipe("linear", (*both, Parent("c", inner)), Parent("base", ModelSource("zoo:base"))))
    assert [parent.source.path for parent in published.parents[:2]] == ["a", "b"], "two folders of one name: their own"
    assert published.parents[2].source == Recipe(
        "own.py:METHOD", (Parent("deep", ModelSource("deep", trust_remote_code=True)),)
    )
    assert str(tmp_path) not in published.to_yaml() and "/home" not in published.to_yaml()
    one = Recipe(
        "linear", (Parent("a", ModelSource("org/model", revision="main")), Parent("z", ModelSource("zoo:math")))
    )
    assert published_recipe(one) == one


def test_paths_are_cut_wherever_they_stand_in_a_text() -> None:
    data = {
        "metric": "python:/home/me/metrics.py:f", "path": "~/models/a", "up": "../b/c.yaml", "root": "/srv/x/",
        "list": ["see /home/me/x and ./y/z", "https://host/a/b", "org/model", "zoo:math", "a/b", "1/2", "and/or"],
    }  # fmt: skip
    assert without_folders(data) == {
        "metric": "python:metrics.py:f", "path": "a", "up": "c.yaml", "root": "x",
        "list": ["see x and z", "https://host/a/b", "org/model", "zoo:math", "a/b", "1/2", "and/or"],
    }  # fmt: skip


HOSTILE = "<img src=x onerror=alert(1)>|`a`\n---\n# head [x](javascript:1) {{ }} *b* _c_ \u202e"


def test_whatever_tasks_data_sets_and_models_are_called_the_card_is_whole_and_the_hub_takes_it() -> None:
    recipe = Recipe("linear", (Parent(HOSTILE, ModelSource("org/a")), Parent("--- |", ModelSource("org/b"))))
    cards = {"org/a": "---\nlicense: apache-2.0\n---\n", "org/b": "---\nlicense: gpl-3.0\n---\n"}
    score = Score(0.5, 0.4, 0.6, 3)
    row = {"test": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 3}}
    text = model_card(
        recipe,
        title=HOSTILE,
        parents=describe_parents(recipe, read=lambda model, name: cards[model.path] if name == "README.md" else None),
        scores={HOSTILE: {Split.TEST: score}, f"{HOSTILE} 2": {Split.TEST: score}},
        tasks={HOSTILE: HOSTILE},
        measured={HOSTILE: {Split.TEST: Measured(HOSTILE, (1, 2), 9, TaskData("org/set", HOSTILE, HOSTILE))}},
        facts={HOSTILE: HOSTILE},
        verdict={
            "best": {"id": 1},
            "baselines": [],
            "objectives": [{"name": HOSTILE, "direction": "maximize"}, {"name": "b", "direction": "minimize"}],
            "choice": {"records": [{"id": 1, "name": HOSTILE, "objectives": {HOSTILE: row, "b": row}}]},
        },
        published=Publication("org/m", "b", f"## The other merges\n\n{markdown(HOSTILE)}"),
    )
    assert metadata_errors(text) == []
    card = ModelCard(text, ignore_metadata_errors=False)
    assert ModelCard(str(card), ignore_metadata_errors=False).data.to_dict() == card.data.to_dict()
    assert card.data.license == "gpl-3.0"
    (result,) = card.data.eval_results
    assert (result.dataset_config, result.dataset_name) == (HOSTILE, HOSTILE), "as it is, in YAML's quotes"
    body = text.partition("\n---\n\n# ")[2]
    prose = re.sub(r"```.*?```|(`+)(?!`).+?(?<!`)\1(?!`)", "", body.partition("<details>")[0], flags=re.DOTALL)
    assert "<img" not in prose and "\u202e" not in prose and not re.search(r"(?<!\\)\]\(javascript", prose)
    headings = [line for line in prose.splitlines() if line.startswith("#")]
    assert "## Items" in headings and not any(line.startswith("# head") for line in headings)
