"""References to the environment: text where a configuration is kept, values where it is used."""

from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from evomerge.system import secrets
from evomerge.system.references import as_text, resolved


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_values", {})
    monkeypatch.setenv("MY_TOKEN", "abc-123-secret")
    monkeypatch.setenv("WORKERS", "8")


@pytest.fixture
def vault() -> Iterator[None]:
    OmegaConf.register_new_resolver("vault", lambda *words: "vaulted " + "/".join(map(str, words)))
    yield
    OmegaConf.clear_resolver("vault")


def kept(config: Any) -> Any:
    with as_text():
        return OmegaConf.to_container(config, resolve=True)


CASES = {
    "plain": ("${oc.env:MY_TOKEN}", "${oc.env:MY_TOKEN}", "abc-123-secret"),
    "inside": ("a-${oc.env:MY_TOKEN}-b", "a-${oc.env:MY_TOKEN}-b", "a-abc-123-secret-b"),
    "through another key": ("${plain}", "${oc.env:MY_TOKEN}", "abc-123-secret"),
    "named by another key": ("${oc.env:${which}}", "${oc.env:MY_TOKEN}", "abc-123-secret"),
    "a number": ("${oc.decode:${oc.env:WORKERS}}", "${oc.decode:${oc.env:WORKERS}}", 8),
    "a default": ("${oc.env:NOBODY,'a b, c}'}", "${oc.env:NOBODY,'a b, c}'}", "a b, c}"),
    "a quote": ('${oc.env:NOBODY,"it\'s"}', "${oc.env:NOBODY,'it\\'s'}", "it's"),
    "nothing": ("${oc.env:NOBODY,null}", "${oc.env:NOBODY,null}", None),
    "a resolver of one's own": ("${vault:a,1,x y}", "${vault:a,1,'x y'}", "vaulted a/1/x y"),
    "two": ("${oc.env:WORKERS}/${oc.env:MY_TOKEN}", "${oc.env:WORKERS}/${oc.env:MY_TOKEN}", "8/abc-123-secret"),
    "which": ("MY_TOKEN", "MY_TOKEN", "MY_TOKEN"),
    "an ordinary one": ("${which}", "MY_TOKEN", "MY_TOKEN"),
    "a shell's": ("$HOME and ${HOME}", None, "$HOME and ${HOME}"),
}


def test_what_asks_the_world_outside_is_kept_as_text_and_resolved_to_what_omegaconf_says(vault: None) -> None:
    written = {name: text for name, (text, keep, _) in CASES.items() if keep is not None}
    config = OmegaConf.create({**written, "list": ["${oc.env:WORKERS}", {"deep": "${plain}"}]})
    data = kept(config)
    for name in written:
        assert data[name] == CASES[name][1], name
    assert data["list"] == ["${oc.env:WORKERS}", {"deep": "${oc.env:MY_TOKEN}"}]
    values, problems = resolved({**data, "a shell's": CASES["a shell's"][0]})
    assert problems == [] and values["list"] == ["8", {"deep": "abc-123-secret"}]
    for name, (_, _, value) in CASES.items():
        assert values[name] == value, name
    assert {name: values[name] for name in written} == {
        name: value for name, value in OmegaConf.to_container(config, resolve=True).items() if name in written
    }
    assert kept(OmegaConf.create(data)) == data, "text that is kept again stays the same"


def test_resolvers_come_back_even_where_something_cannot_be_resolved() -> None:
    with pytest.raises(Exception, match="nowhere"):
        kept(OmegaConf.create({"a": "${nowhere}"}))
    assert OmegaConf.create({"a": "${oc.env:MY_TOKEN}"}).a == "abc-123-secret"


def test_all_references_without_a_value_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_TOKEN")
    data = {"execution": {"runtime_env": {"env_vars": {"T": "${oc.env:MY_TOKEN}"}}}, "a": ["${vault:x}"], "b": 1}
    _, problems = resolved(data)
    assert len(problems) == 2
    assert "execution.runtime_env.env_vars.T: ${oc.env:MY_TOKEN}" in problems[0]
    assert "the environment variable MY_TOKEN is not set here; set it" in problems[0]
    assert "a[0]: ${vault:x} has no value: nothing here resolves 'vault'" in problems[1]


def test_values_that_are_secrets_are_hidden_afterwards_and_others_are_not() -> None:
    resolved({"name": "${oc.env:MY_TOKEN}", "workers": "${oc.env:WORKERS}"})
    assert secrets.hide("8 workers with abc-123-secret") == "8 workers with ${oc.env:MY_TOKEN}"
