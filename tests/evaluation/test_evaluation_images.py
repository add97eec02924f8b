"""Tasks that show images: answers and scores are lm-eval's own, and what is kept of images is text."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from seeing_models import generate, picture, reading, seeing
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.chat import Chat
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.record import ItemAnswer, Split

N = 7
KEYS: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "<image>{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"max_gen_toks": 5, "until": ["zz"]},
    "metric_list": [{"metric": "exact_match"}],
}


def write_task(folder: Path, answers: list[str], name: str = "look", *, seed: int = 0, **keys: Any) -> Path:
    """A local task whose images are files; right answers are given."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, right in enumerate(answers):
        path = folder / f"{name}-{i}.png"
        picture(100 * seed + i, (16 + 4 * (i % 2), 16)).save(path)
        lines.append(json.dumps({"picture": str(path), "question": f"what is it{' now' * (i % 3)}?", "answer": right}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "looking.py").write_text(
        "from PIL import Image\n\n\ndef images(doc):\n    return [Image.open(doc['picture']).convert('RGB')]\n"
    )
    data = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        **KEYS,
        **keys,
    }
    text = yaml.safe_dump(data)
    if "doc_to_image" not in keys:
        text += "doc_to_image: !function looking.images\n"
    (folder / f"{name}.yaml").write_text(text)
    return folder


SLOW = [pytest.param(family, marks=pytest.mark.slow) for family in ("llava_next", "idefics3", "gemma3")]


@pytest.fixture(scope="module", params=["llava", *SLOW])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeing(tmp_path_factory.mktemp(request.param) / "model", request.param, 5)


def load(folder: Path) -> tuple[Any, Any]:
    return AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def harness(folder: Path, *names: str, **options: Any) -> LmHarness:
    specs = [TaskSpec(name, "exact_match") for name in names or ("look",)]
    sizes = SplitSizes(search=None, validation=0, test=0)
    return LmHarness(specs, sizes=sizes, include_path=[folder], batch_size=3, **options)


def by_lm_eval(folder: Path, tasks: Path, names: list[str], chat: bool) -> Any:
    """lm-eval's own evaluation of a folder, as `lm_eval --model hf-multimodal` does it."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return simple_evaluate(
        model="hf-multimodal", model_args={"pretrained": str(folder), "dtype": "float32"}, device="cpu", batch_size=3,
        tasks=names, task_manager=manager, apply_chat_template=chat, log_samples=True,
    )  # fmt: skip


@pytest.mark.parametrize("chat", [False, True])
def test_scores_and_answers_are_those_of_lm_eval(model: Path, tmp_path: Path, chat: bool) -> None:
    if not chat and "gemma3" in str(model):
        pytest.skip("in plain text lm-eval writes the token of an image, where this processor wants that of its start")
    said = [generate(*_with_processor(model), picture(i), "what is it?", 5) for i in range(N)]
    words = AutoTokenizer.from_pretrained(model)
    right = [words.decode(one, skip_special_tokens=True) if i % 2 else "no" for i, one in enumerate(said)]
    write_task(tmp_path, right)
    theirs = by_lm_eval(model, tmp_path, ["look"], chat)["samples"]["look"]
    mine = harness(tmp_path, chat=Chat(template=True) if chat else None)
    live, tokenizer = load(model)
    texts: list[ItemAnswer] = []
    scores, _ = mine.evaluate(live, tokenizer, Split.SEARCH, texts)
    own = {one.item: one.metrics["exact_match"] for one in scores}
    assert own == {one["doc_id"]: one["exact_match"] for one in theirs}
    assert {one.item: one.responses[0] for one in texts} == {one["doc_id"]: one["resps"][0][0] for one in theirs}
    prompts = {one.item: one.requests[0][0] for one in mine.prompts(Split.SEARCH, tokenizer)}
    assert prompts == {one["doc_id"]: one["arguments"][0][0] for one in theirs}
    assert len(set(prompts.values())) > 1


def _with_processor(folder: Path) -> tuple[Any, Any]:
    return AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def test_text_tasks_of_a_model_that_sees_are_scored_by_the_usual_engine(tmp_path: Path) -> None:
    folder = seeing(tmp_path / "model", "llava", 5)
    task = {**KEYS, "doc_to_text": "{{question}}", "doc_to_image": None}
    write_task(
        tmp_path / "tasks", ["a"] * N, "words", **{k: v for k, v in task.items() if v is not None}, doc_to_image=None
    )
    write_task(tmp_path / "tasks", ["a"] * N, "look")
    live, tokenizer = load(folder)
    texts: dict[str, list[str]] = {}
    for engine in ("hf", "lm-eval"):
        found: list[ItemAnswer] = []
        harness(tmp_path / "tasks", "words", "look", engine=engine).evaluate(live, tokenizer, Split.SEARCH, found)
        texts[engine] = [one.responses[0] for one in found]
    assert texts["hf"] == texts["lm-eval"] and len(texts["hf"]) == 2 * N


def test_images_are_part_of_what_items_ask_and_kept_as_text(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 0, 1):  # the same images again, and others of the same sizes
        folder = tmp_path / f"{len(hashes)}"
        write_task(folder, ["a"] * N, seed=seed)
        made = harness(folder)
        hashes.append(made.contents()["items"]["look"]["search"]["generation"])
    assert hashes[0] == hashes[1] != hashes[2]
    prompt = made.prompts(Split.SEARCH)[1]
    (image,) = prompt.requests[0][2]["visual"]
    assert image.startswith("<image 20×16 RGB, SHA-256 ") and " at 0x" not in json.dumps(prompt.requests)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"output_type": "multiple_choice", "doc_to_choice": ["a", "b"]}, r"give it output_type: generate_until"),
        ({"doc_to_audio": "question"}, "plays audio to the model; only text and images are supported"),
    ],
)
def test_what_lm_eval_does_not_show_is_refused_before_anything_is_loaded(
    tmp_path: Path, keys: dict[str, Any], problem: str
) -> None:
    write_task(tmp_path, ["a"] * N, **keys)
    with pytest.raises(ConfigError, match=problem):
        harness(tmp_path)


def test_without_pillow_the_way_to_get_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(tmp_path, ["a"] * N)
    monkeypatch.setattr("evomerge.evaluation.images.has_pillow", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'evomerge\[vision\]'"):
        harness(tmp_path)


def test_a_model_that_does_not_see_and_a_prompt_that_is_too_long_are_told(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks", ["a"] * N)
    text = reading(tmp_path / "text", "llava", 1)
    words = AutoTokenizer.from_pretrained(text)
    made = harness(tmp_path / "tasks")
    problems, _ = made.tried_templates([("the parent text", words)])
    assert problems and "the parent text: the task shows images, but" in problems[0]
    folder = seeing(tmp_path / "model", "llava", 5, max_position_embeddings=16)
    live, tokenizer = load(folder)
    with pytest.raises(EvaluationError, match=r"a prompt and its images have \d+ tokens, but 11 fit beside the answer"):
        made.score(live, tokenizer, Split.SEARCH)
