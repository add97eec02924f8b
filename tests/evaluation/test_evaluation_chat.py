"""How models are asked: prompts, answers and metrics against lm-eval's own, item by item, for every setting."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from evaluation_helpers import CHOICE, GENERATION, WORDS, Tiny, continuation, make_model, questions, write_task

from evomerge.errors import ConfigError
from evomerge.evaluation import SplitSizes, TaskSpec
from evomerge.evaluation.chat import RESERVED, Chat
from evomerge.evaluation.engines.base import Call
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.quiet import lm_eval_randomness, quiet
from evomerge.record import ItemScore, Split

N = 5
PLAIN = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THINKS = PLAIN.replace(
    "<|assistant|>{%", "<|assistant|>{% if enable_thinking is defined and not enable_thinking %}<t></t>{% endif %}{%"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + PLAIN
TOOLS = "{% if tools %}{{ tools | length }} tools {% endif %}" + PLAIN
TEMPLATES = {
    "plain": PLAIN,
    "thinks": THINKS,
    "no system": NO_SYSTEM,
    "several": {"default": PLAIN, "short": "{% for m in messages %}{{ m.content }} {% endfor %}", "tool_use": TOOLS},
}


@pytest.fixture(scope="module")
def chats(tiny: Tiny) -> Mapping[str, Any]:
    """Tokenizers by their templates; of all, `<end>` is a special token, and `</t>` is one that is not."""
    found = {}
    for name, template in TEMPLATES.items():
        tokenizer = copy.deepcopy(tiny.tokenizer)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<end>", "<special>"]})
        tokenizer.add_tokens(["</t>"])
        tokenizer.chat_template = template
        found[name] = tokenizer
    return found


@pytest.fixture(scope="module")
def model(chats: Mapping[str, Any]) -> Any:
    return make_model(len(chats["plain"]), seed=4)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, model: Any, chats: Mapping[str, Any]) -> Path:
    """A folder with tasks: texts and options, with a description, a beginning of the answer, and several inputs."""
    folder = tmp_path_factory.mktemp("asked")
    rng = random.Random(5)
    tiny = Tiny(model, chats["plain"])
    said = [(text, continuation(tiny, text, 2)) for text in questions(N, seed=6)]
    texts = [{"question": text, "answer": answer} for text, answer in said]
    shots = [{"question": text, "answer": rng.choice(WORDS)} for text in questions(4, seed=7)]
    drawn: dict[str, Any] = {"training_split": "train", "fewshot_split": "train", "description": "Be brief: "}
    write_task(folder, "told", {"test": texts, "train": shots}, **GENERATION, **drawn)
    begun = {"gen_prefix": "So: ", **drawn}
    write_task(folder, "begun", {"test": texts, "train": shots}, **GENERATION, **begun)
    options = [
        {"question": text, "choices": rng.sample(WORDS, 3), "gold": rng.randrange(3)} for text in questions(12, seed=8)
    ]
    split = {"test": options[:N], "train": options[N:]}
    write_task(folder, "choice", split, **CHOICE, **drawn)
    write_task(folder, "choice_begun", split, **CHOICE, **begun)
    return folder


def reference(
    model: Any, tokenizer: Any, folder: Path, tasks: list[str], chat: Chat, **options: Any
) -> dict[str, list[dict[str, Any]]]:
    """The samples that `simple_evaluate` logs of each task, in the order of the items."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    of_model = options.pop("of_model", {})
    with quiet(), lm_eval_randomness():
        lm = HFLM(
            pretrained=model,
            tokenizer=copy.deepcopy(tokenizer),
            batch_size=1,  # rows of a batch go on until all are over, and text after a stop may end the thinking
            think_end_token=chat.think_end_token,
            **{"chat_template_args": dict(chat.arguments), **of_model},
        )
        results = lm_eval.simple_evaluate(
            lm,
            tasks=tasks,
            task_manager=TaskManager(include_defaults=False, include_path=str(folder)),
            samples={name: list(range(N)) for name in tasks},
            bootstrap_iters=0,
            system_instruction=chat.system,
            apply_chat_template=chat.template or False,
            fewshot_as_multiturn=chat.fewshot_as_turns,
            **options,
        )
    return {name: sorted(logged, key=lambda one: one["doc_id"]) for name, logged in results["samples"].items()}


def made(folder: Path, tasks: list[str], chat: Chat, engine: str = "hf", **settings: Any) -> LmHarness:
    specs = [TaskSpec(name, "exact_match" if name in ("told", "begun") else "acc", **settings) for name in tasks]
    sizes = SplitSizes(search=None, validation=0, test=0)
    return LmHarness(specs, sizes=sizes, include_path=[folder], batch_size=3, chat=chat, engine=engine)


def scored(model: Any, tokenizer: Any, harness: LmHarness) -> tuple[dict[str, list[ItemScore]], dict[str, list[Any]]]:
    """Scores, and requests with the answers that they got, by task."""
    texts: dict[str, list[Any]] = {}
    answers = harness.answers(model, tokenizer, Split.SEARCH, None, _everything())
    scores = harness.scores(model, tokenizer, Split.SEARCH, None, [answers])
    ((_, requests),) = list(harness._requests.items())
    calls = {kind: iter(sorted(found.items())) for kind, found in zip(_kinds(requests), answers, strict=True)}
    for name, one in requests.items():
        for group in one.instances:
            found = [(instance.args, next(calls[instance.request_type])[1]) for instance in group]
            texts.setdefault(name, []).append(found)
    by_task: dict[str, list[ItemScore]] = {}
    for score in scores:
        by_task.setdefault(score.task, []).append(score)
    return by_task, texts


def _everything() -> Any:
    from evomerge.evaluation.engines.units import UnitRange

    return UnitRange()


def _kinds(requests: Mapping[str, Any]) -> list[str]:
    from evomerge.evaluation.prepared_task import by_request_type

    return list(by_request_type(requests))


def compare(model: Any, tokenizer: Any, harness: LmHarness, expected: dict[str, list[dict[str, Any]]]) -> None:
    """Hold prompts, answers and metrics of all items against lm-eval's."""
    scores, texts = scored(model, tokenizer, harness)
    assert list(scores) == list(expected)
    for name, theirs in expected.items():
        assert len(theirs) == len(scores[name]) == N
        for score, own, sample in zip(scores[name], texts[name], theirs, strict=True):
            assert [args for args, _ in own] == [tuple(one) for one in sample["arguments"]]
            if isinstance(own[0][1], str):
                assert own[0][1] == sample["resps"][0][0]
                assert score.metrics["exact_match"] == sample["exact_match"]
            else:
                for (_, mine), its in zip(own, sample["resps"], strict=True):
                    assert mine[0] == pytest.approx(its[0][0], abs=1e-4)
                    assert mine[1] == its[0][1]
                assert score.metrics["acc"] == sample["acc"]


ALL_TASKS = ["told", "begun", "choice", "choice_begun"]


@pytest.mark.parametrize(
    ("template", "shots", "turns"),
    [
        *[("plain", shots, turns) for shots in (0, 1, 2) for turns in (True, False)],
        *[("no system", 1, True), ("no system", 2, False), ("several", 1, True)],
    ],
)
def test_chats_equal_lm_eval(
    template: str, shots: int, turns: bool, model: Any, chats: Mapping[str, Any], asked: Path
) -> None:
    chat = Chat(True, system="You are tiny.", fewshot_as_turns=turns)
    tokenizer = chats[template]
    expected = reference(model, tokenizer, asked, ALL_TASKS, chat, num_fewshot=shots)
    compare(model, tokenizer, made(asked, ALL_TASKS, chat, num_fewshot=shots), expected)
    prompt = expected["told"][0]["arguments"][0][0]
    assert ("You are tiny." in prompt) == (template != "no system")
    assert prompt.count("<|assistant|>") == (1 + shots if turns else 1)
    assert expected["begun"][0]["arguments"][0][0].endswith("So: ")  # the answer goes on behind its beginning


@pytest.mark.parametrize("system", [None, "You are tiny."])
def test_a_system_text_without_a_template_begins_the_prompt_as_in_lm_eval(
    system: str | None, model: Any, chats: Mapping[str, Any], asked: Path
) -> None:
    chat = Chat(system=system)
    expected = reference(model, chats["plain"], asked, ALL_TASKS, chat, num_fewshot=1)
    compare(model, chats["plain"], made(asked, ALL_TASKS, chat, num_fewshot=1), expected)
    assert expected["told"][0]["arguments"][0][0].startswith(("You are tiny." if system else "") + "")


@pytest.mark.parametrize("thinking", [True, False, None])
def test_arguments_reach_the_template_as_in_lm_eval(
    thinking: bool | None, model: Any, chats: Mapping[str, Any], asked: Path
) -> None:
    arguments = {} if thinking is None else {"enable_thinking": thinking}
    chat = Chat(True, arguments=arguments, think_end_token="</t>")
    tasks = ["told", "begun"] if thinking else ALL_TASKS  # lm-eval refuses options after thinking
    given = {"chat_template_args": {}, "enable_thinking": thinking}
    expected = reference(model, chats["thinks"], asked, tasks, chat, num_fewshot=1, of_model=given)
    compare(model, chats["thinks"], made(asked, tasks, chat, num_fewshot=1), expected)
    assert ("<t></t>" in expected["told"][0]["arguments"][0][0]) == (thinking is False)


def test_a_named_template_is_used(model: Any, chats: Mapping[str, Any], asked: Path) -> None:
    chat = Chat("short")
    # lm-eval 0.4.13 takes a name, but writes with the default template; as an argument of the template it counts.
    given = {"chat_template_args": {"chat_template": "short"}}
    expected = reference(model, chats["several"], asked, ALL_TASKS, chat, num_fewshot=1, of_model=given)
    compare(model, chats["several"], made(asked, ALL_TASKS, chat, num_fewshot=1), expected)
    assert "<|user|>" not in expected["told"][0]["arguments"][0][0]


def test_the_name_default_means_the_only_template_and_tools_choose_theirs(
    model: Any, chats: Mapping[str, Any], asked: Path
) -> None:
    expected = reference(model, chats["plain"], asked, ["told"], Chat(True))
    compare(model, chats["plain"], made(asked, ["told"], Chat("default")), expected)
    tools = Chat(True, arguments={"tools": [{"type": "function", "function": {"name": "f"}}]})
    expected = reference(model, chats["several"], asked, ["told"], tools)
    compare(model, chats["several"], made(asked, ["told"], tools), expected)
    assert expected["told"][0]["arguments"][0][0].startswith("1 tools ")
    assert tools.unread(chats["several"]) == []


def _common(answers: list[str]) -> str:
    """A text that stands inside of several answers, but does not end them."""
    inner = [word for answer in answers for word in {answer[i : i + 2] for i in range(1, len(answer) - 3)}]
    return max(sorted(set(inner)), key=lambda one: (inner.count(one), one.isalpha()))


@pytest.fixture(scope="module")
def unthought(model: Any, chats: Mapping[str, Any], asked: Path) -> list[str]:
    """What the model writes, as a whole."""
    tasks = ["told", "begun"]
    plain = reference(model, chats["plain"], asked, tasks, Chat(True), gen_kwargs={"max_gen_toks": 24})
    return [sample["resps"][0][0] for name in tasks for sample in plain[name]]


@pytest.mark.parametrize(
    ("stops", "kind", "engine"),
    [
        *[(stops, kind, "hf") for stops in (None, [], "in the thinking") for kind in ("text", "token")],
        *[("in the thinking", "nowhere", "hf"), ([], "nowhere", "hf")],
        *[("in the thinking", kind, "lm-eval") for kind in ("text", "token")],
    ],
)
def test_what_is_thought_is_no_answer_as_in_lm_eval(
    stops: Any, kind: str, engine: str, unthought: list[str], model: Any, chats: Mapping[str, Any], asked: Path
) -> None:
    tokenizer, tasks, answers = chats["plain"], ["told", "begun"], unthought
    text = _common(answers)
    marker = text
    if kind == "token":  # the commonest token that is generated
        ids = [one for answer in answers for one in tokenizer.encode(answer, add_special_tokens=False)]
        words = [one for one in ids if tokenizer.decode([one]).strip() in WORDS]
        marker = str(max(sorted(set(words)), key=words.count))
    elif kind == "nowhere":
        marker = "</t>"
    chat = Chat(True, think_end_token=marker)
    generation: dict[str, Any] = {"max_gen_toks": 24}
    if stops == "in the thinking":
        generation["until"] = [_common([answer for answer in answers if text in answer]), "nowhere"]
    elif stops is not None:
        generation["until"] = stops
    expected = reference(model, tokenizer, asked, tasks, chat, gen_kwargs=generation)
    harness = made(asked, tasks, chat, engine, generation=generation)
    compare(model, tokenizer, harness, expected)
    cut = [sample["resps"][0][0] for name in tasks for sample in expected[name]]
    assert (cut != answers) == (kind != "nowhere" or stops == "in the thinking")


def test_a_candidate_may_be_answered_in_pieces(model: Any, chats: Mapping[str, Any], asked: Path) -> None:
    from evomerge.evaluation.engines.units import UnitRange

    chat = Chat(True, think_end_token="a")
    whole, pieces = (made(asked, ["told"], chat) for _ in range(2))
    parts = [pieces.answers(model, chats["plain"], Split.SEARCH, None, UnitRange(i, i + 1)) for i in range(N)]
    together = pieces.scores(model, chats["plain"], Split.SEARCH, None, parts)
    assert together == whole.score(model, chats["plain"], Split.SEARCH)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_gen_toks": 3},
        {"until": [" ", "e"]},
        {"until": "e", "max_gen_toks": 20},
        {"until": []},
        {"num_beams": 2, "max_gen_toks": 5},
        {"temperature": 0.7, "do_sample": False},
        {"repetition_penalty": 1.5},
    ],
    ids=str,
)
def test_generation_settings_equal_lm_evals_gen_kwargs(
    settings: dict[str, Any], model: Any, chats: Mapping[str, Any], asked: Path
) -> None:
    expected = reference(model, chats["plain"], asked, ["told"], Chat(True), gen_kwargs=copy.deepcopy(settings))
    compare(model, chats["plain"], made(asked, ["told"], Chat(True), generation=settings), expected)
    arguments = expected["told"][0]["arguments"][0][1]
    assert {name: arguments[name] for name in settings} == settings
    assert settings in ({"until": []}, {"max_gen_toks": 3}) or "until" in arguments


def test_settings_of_one_entry_hold_for_its_task_alone(model: Any, chats: Mapping[str, Any], asked: Path) -> None:
    specs = [
        TaskSpec("told", "exact_match", generation={"max_gen_toks": 3}),
        TaskSpec("told", "generated_tokens", weight=0, direction="minimize"),
        TaskSpec("begun", "generated_tokens", direction="minimize"),
    ]
    harness = LmHarness(specs, sizes=SplitSizes(search=4, validation=0, test=0), include_path=[asked])
    assert [spec.generation for spec in harness.specs] == [{"max_gen_toks": 3}, {"max_gen_toks": 3}, None]
    lengths = {
        name: {score.metrics["generated_tokens"] for score in harness.score(model, chats["plain"], Split.SEARCH)
               if score.task == name}
        for name in ("told", "begun")
    }  # fmt: skip
    assert lengths == {"told": {3.0}, "begun": {8.0}}


def test_entries_of_one_task_must_agree_on_generation(asked: Path) -> None:
    specs = [TaskSpec("told", "exact_match", generation={"until": []}),
             TaskSpec("told", "generated_tokens", generation={"until": ["\n"]})]  # fmt: skip
    with pytest.raises(ConfigError, match=r"do not agree on `generation`: \{'until': \[\]\}, \{'until': \['\\n'\]\}"):
        LmHarness(specs, sizes=SplitSizes(search=4, validation=0, test=0), include_path=[asked])


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("told", {"do_sample": True}, "asks for sampled answers"),
        ("told", {"temperature": 0.5}, "answers must be the same each time, since models are compared by them"),
        ("told", {"temperature": "warm"}, "temperature must be a number, but came 'warm'"),
        ("told", {"max_gen_toks": 0}, "max_gen_toks must be a whole number of at least 1, but came 0"),
        ("told", {"max_new_tokens": 9}, "call it max_gen_toks"),
        ("told", {"until": [3]}, r"until must be a text or a list of texts, but came \[3\]"),
        ("choice", {"until": []}, "of the kind multiple_choice, in which no answer is generated"),
    ],
)
def test_generation_settings_that_cannot_be_are_refused(
    task: str, settings: dict[str, Any], message: str, asked: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        made(asked, [task], Chat(), generation=settings)


def test_a_sampling_task_can_be_made_greedy(tmp_path: Path, asked: Path) -> None:
    draws = {**GENERATION, "generation_kwargs": {"do_sample": True, "temperature": 0.8, "until": ["\n"]}}
    write_task(tmp_path, "told", {"test": [{"question": "a", "answer": "b"}] * 3}, **draws)
    with pytest.raises(ConfigError, match=r"give its entry `generation: \{do_sample: false\}`"):
        made(tmp_path, ["told"], Chat())
    made(tmp_path, ["told"], Chat(), generation={"do_sample": False}).prepare()


def test_hashes_of_items_know_how_they_are_asked(asked: Path) -> None:
    def prompts(chat: Chat, **settings: Any) -> tuple[str, str, dict[str, str]]:
        found = made(asked, ["told"], chat, **settings).contents()
        one = found["items"]["told"]["search"]
        return one["prompt"], one["generation"], found["scoring"]["told"]

    plain = prompts(Chat(True))
    assert prompts(Chat(True)) == plain
    for other in (
        Chat(True, system="Be."),
        Chat(True, arguments={"enable_thinking": False}),
        Chat("short"),
        Chat(),
        Chat(True, system="Be.", arguments={"enable_thinking": True}),
    ):
        assert prompts(other)[0] != plain[0]
        assert prompts(other)[1:] == plain[1:]
    assert prompts(Chat(True), num_fewshot=2)[0] != prompts(Chat(True, fewshot_as_turns=False), num_fewshot=2)[0]
    longer = prompts(Chat(True), generation={"max_gen_toks": 99})
    assert longer[0] == plain[0] and longer[1] != plain[1]
    thinks = prompts(Chat(True, think_end_token="</t>"))
    assert thinks[:2] == plain[:2] and thinks[2] != plain[2]


def tried(chat: Chat, chats: Mapping[str, Any], names: list[str], asked: Path) -> tuple[list[str], list[str]]:
    return made(asked, ["told", "choice"], chat).tried_templates([(name, chats[name]) for name in names])


def test_settings_that_change_nothing_or_cannot_be_are_found_before_a_model_is_asked(
    chats: Mapping[str, Any], asked: Path
) -> None:
    assert tried(Chat(True), chats, ["plain", "thinks"], asked) == ([], [])
    (problem,), _ = tried(Chat(True, arguments={"enable_thinkin": False}), chats, ["plain", "thinks"], asked)
    assert problem.startswith("no chat template here reads the argument 'enable_thinkin'")
    problems, (note,) = tried(Chat(True, arguments={"enable_thinking": False}), chats, ["plain", "thinks"], asked)
    assert (problems, note) == (
        [],
        "the chat template of plain does not read 'enable_thinking', so it changes nothing there",
    )
    (problem,), notes = tried(Chat(True, system="Be."), chats, ["plain", "no system"], asked)
    assert "of no system takes no system message, so the system text would be left out there" in problem
    assert notes == []
    problems, (note, *_) = tried(Chat(True), chats, ["no system"], asked)
    assert problems == []
    assert "takes no system message: the description of task 'told' is left out" in note


def test_what_ends_the_thinking_must_be_able_to_stand_in_an_answer(chats: Mapping[str, Any], asked: Path) -> None:
    (problem,), _ = tried(Chat(True, think_end_token="<special>"), chats, ["plain"], asked)
    special = chats["plain"].convert_tokens_to_ids("<special>")
    assert (
        "it is or holds a special token, and those are taken out of an answer before the text is looked for; give "
        in problem
    )
    assert problem.endswith(f"'{special}'")
    assert tried(Chat(True, think_end_token=str(special)), chats, ["plain"], asked)[0] == []
    (problem,), _ = tried(Chat(True, think_end_token="99999"), chats, ["plain", "thinks"], asked)
    assert (
        "think_end_token is 99999, of which answers of plain, thinks cannot show anything: their tokens end" in problem
    )
    problems, notes = tried(Chat(True, think_end_token="</thonk>"), chats, ["plain"], asked)
    assert problems == []
    assert any("'</thonk>' is neither one token of plain nor in the chat template" in note for note in notes)
    assert not any("neither" in note for note in tried(Chat(True, think_end_token="</t>"), chats, ["plain"], asked)[1])


def test_traps_of_thinking_are_told(chats: Mapping[str, Any], asked: Path) -> None:
    _, notes = tried(Chat(True, arguments={"enable_thinking": True}), chats, ["thinks"], asked)
    assert any(note.startswith("enable_thinking is set, but no think_end_token") for note in notes)
    assert any("task 'choice' has no answers written" in note for note in notes)
    _, notes = tried(Chat(True, think_end_token="</t>"), chats, ["thinks"], asked)
    assert any(
        r"task 'told' ends an answer at '\n\n', as lm-eval does also where the model still thinks" in note
        for note in notes
    )
    harness = made(asked, ["told"], Chat(True, think_end_token="</t>"), generation={"until": []})
    assert harness.tried_templates([("thinks", chats["thinks"])]) == ([], [])


def test_a_template_that_is_not_there_is_named(model: Any, chats: Mapping[str, Any], asked: Path) -> None:
    assert Chat("short").lacking(chats["plain"]) == "no chat template 'short' (but one without a name)"
    assert Chat("shirt").lacking(chats["several"]) == "no chat template 'shirt' (but 'default', 'short', 'tool_use')"
    nameless = copy.deepcopy(chats["several"])
    nameless.chat_template = {"short": PLAIN}
    assert Chat(True).lacking(nameless) == "no chat template 'default' (but 'short')"
    with pytest.raises(ConfigError, match="the tokenizer has no chat template 'short'"):
        made(asked, ["told"], Chat("short")).score(model, chats["plain"], Split.SEARCH)


def test_arguments_that_lm_eval_sets_itself_are_known_by_name() -> None:
    import inspect

    from transformers import PreTrainedTokenizerBase

    parameters = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters
    known = {name for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD}
    assert set(RESERVED) <= known
    assert known - set(RESERVED) - {"self", "sanitize_control_tokens"} == {"tools", "documents"}


def test_a_template_that_writes_the_date_is_told(chats: Mapping[str, Any], asked: Path) -> None:
    dated = copy.deepcopy(chats["plain"])
    dated.chat_template = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today: {{ date_string }} " + PLAIN
    )
    (note,) = made(asked, ["choice"], Chat(True)).tried_templates([("it", dated)])[1]
    assert note.startswith("the chat template of it writes today's date, so that the prompts are others on another day")
    fixed = Chat(True, arguments={"date_string": "1 Jan 1970"})
    assert made(asked, ["choice"], fixed).tried_templates([("it", dated)]) == ([], [])


@pytest.mark.parametrize("kind", ["text", "token"])
def test_vllm_takes_away_what_is_thought_as_the_default_engine_does(
    kind: str, model: Any, chats: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokens are made up here by the model itself; that vLLM makes the same ones is tested beside it."""
    from evomerge.evaluation.engines.encoding import Encoder
    from evomerge.evaluation.engines.hf import HfEngine
    from evomerge.evaluation.engines.vllm import VllmEngine

    tokenizer, texts = chats["plain"], questions(6, seed=9)
    tiny = Tiny(model, tokenizer)
    said = [tokenizer(continuation(tiny, text, 24))["input_ids"] for text in texts]
    tokens = [one for ids in said for one in ids]
    marker: Any = max(sorted(set(tokens)), key=tokens.count)
    if kind == "text":
        marker = tokenizer.decode([marker])
    settings = {"until": ["e"], "max_gen_toks": 24}
    encoder = Encoder(tokenizer, 512, think_end=marker)
    requests = tuple(SimpleNamespace(args=(text, settings), doc_id=i) for i, text in enumerate(texts))
    encoded = tuple(encoder.encode("generate_until", one.args) for one in requests)
    call = Call("generate_until", requests, ("t",) * len(texts), encoded, marker)
    default = HfEngine(batch_size=4, max_length=512)
    expected = default.answer(model, tokenizer, default.prepare(call), None)

    module, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    module.SamplingParams = lambda **given: SimpleNamespace(**given)  # type: ignore[attr-defined]
    params.RequestOutputKind = SimpleNamespace(DELTA=0)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)

    def run(asked: Any, received: Any, should_stop: Any) -> None:
        for i, (prompt, given) in enumerate(asked):
            ids = list(prompt)
            for _ in range(given.max_tokens):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
                output = SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids[-1:])])
                if received(i, output) or ids[-1] in given.stop_token_ids:
                    break

    engine = object.__new__(VllmEngine)
    engine._stops = {}
    monkeypatch.setattr(engine, "_run", run)
    found = engine._generate(engine.prepare(call).generations, tokenizer, frozenset({0}), 1.0, None)
    assert found == expected
    assert len({str(one) for one in found}) > 2
