"""The configuration of a run, what it stands on, and how to do it again."""

import shlex

from evomerge.recipe import ModelSource
from evomerge.report.data import RunData
from evomerge.report.figures import configuration, reproduce
from evomerge.report.figures.configuration import contents_hash
from evomerge.store.inputs import ModelContents
from evomerge.system.contents import Content


def test_the_configuration_holds_what_differs_and_all(open_made) -> None:
    secret = "hf_" + "AbCdEfGh12" * 3
    changed = [{"key": "execution.threads", "before": None, "after": 2, "when": 1.7e9}]
    run: RunData = open_made(config={"evaluation": {"tasks": [], "note": secret}}, meta={"changed": changed})
    figure = configuration.draw([run])
    assert figure is not None
    assert "optimizer:\n  name: cma" in figure.data["whole"] and secret not in figure.data["whole"]
    assert "base: org/base" in figure.data["differing"] and "name: made up" in figure.data["differing"]
    assert [one["key"] for one in figure.data["changed"]] == ["execution.threads"]
    assert (figure.data["changed"][0]["before"], figure.data["changed"][0]["after"]) == ("–", "2")
    assert "1 value changed when it was continued" in figure.lead
    assert [one["name"] for one in figure.data["models"]] == ["math", "words", "code", "base"]
    assert figure.data["models"][0] == {"name": "math", "source": "org/0", "contents": "not recorded"}
    assert figure.data["versions"]["Python"].startswith("3.") and "numpy" in figure.data["versions"]
    assert "host" not in figure.data["machine"]


def test_the_hash_of_contents_follows_every_file() -> None:
    def model(**digests: str) -> ModelContents:
        files = {name: ("weights", Content(digest)) for name, digest in digests.items()}
        return ModelContents(ModelSource("org/a"), "folder", files)

    one = contents_hash(model(a="1", b="2"))
    assert one == contents_hash(model(b="2", a="1")) and len(one) == 16
    assert len({one, contents_hash(model(a="1", b="3")), contents_hash(model(a="1"))}) == 3


def test_commands_can_be_pasted(open_made) -> None:
    run: RunData = open_made()
    figure = reproduce.draw([run])
    assert figure is not None
    commands = [shlex.split(one["command"]) for one in figure.data["steps"]]
    assert all(words[0] == "evomerge" for words in commands)
    assert commands[0] == ["evomerge", "search", str(run.path / "config.yaml"), "run.dir=again"]
    assert ["evomerge", "resume", str(run.path), "budget.candidates=32"] in commands
    assert ["evomerge", "export", str(run.path), "--out", "merged"] in commands


def test_what_is_promised_follows_the_executor(open_made) -> None:
    assert "bit for bit; so does" in reproduce.draw([open_made()]).lead
    loose = open_made(config={"execution": {"name": "ray", "deterministic": False}})
    assert "proposes other candidates" in reproduce.draw([loose]).lead
    timed = open_made(budget={"candidates": None, "seconds": 60})
    assert "up to where the limit of 60 seconds ends it" in reproduce.draw([timed]).lead


def test_several_runs_show_in_what_they_differ(open_made) -> None:
    runs = [open_made(seed=0, label="a"), open_made(seed=1, label="b")]
    figure = configuration.draw(runs)
    assert figure is not None and [list(row) for row in figure.table.rows] == [["seed", "0", "1"]]
    assert list(figure.table.columns) == ["key", "seed 0", "seed 1"]
    assert configuration.draw([runs[0], runs[0]]) is None
    steps = reproduce.draw(runs).data["steps"]
    assert [one["what"] for one in steps] == ["search again: seed 0", "search again: seed 1", "this page anew"]


def test_every_kind_of_run_has_both(any_run: RunData) -> None:
    assert configuration.draw([any_run]) is not None and reproduce.draw([any_run]) is not None
