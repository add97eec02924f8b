"""What a configuration says of Ray: all mistakes at once, and what a worker needs, as plain data."""

import pickle
import re
import shutil
from pathlib import Path

import pytest

from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.assembly.ray_workers import WorkerPlan, checkpoints
from evomerge.assembly.workers import device_problems_of, find_devices
from evomerge.cli.compose import compose
from evomerge.config.reader import from_data, read
from evomerge.errors import CheckpointError, ConfigError
from evomerge.execution.base import StopSignal
from evomerge.execution.pool.actor import CancelToken, WorkerContext, from_plain, to_plain
from evomerge.merge.files.fingerprint import fingerprint
from evomerge.record import Job, Split, State
from evomerge.zoo import zoo_path

SMALL = [
    "experiment=zoo_ja_math",
    "evaluation.split={search:6,validation:6,test:6}",
    "execution=ray",
    "execution.threads=1",
]


def problems(*words: str) -> tuple[str, ...]:
    _, found = read(compose([*SMALL, *words]))
    return tuple(found)


def test_the_group_is_read() -> None:
    words = ["execution.workers=3", "execution.gpus_per_worker=0.25", "execution.timeout=60", "execution.address=h:1"]
    execution = from_data(compose([*SMALL, *words])).execution
    assert (execution.name, execution.workers, execution.gpus_per_worker) == ("ray", 3, 0.25)
    assert (execution.timeout, execution.address, execution.deterministic) == (60.0, "h:1", True)
    assert from_data(compose(SMALL)).execution.workers is None
    assert from_data(compose(SMALL)).execution.timeout == "auto"
    assert from_data(compose([*SMALL, "execution.timeout=none"])).execution.timeout is None
    assert "seconds, auto or none" in problems("execution.timeout=soon")[0]
    on_cpu = from_data(compose([*SMALL, "execution.device=cpu"])).execution
    assert on_cpu.gpus_per_worker == 0.0


def test_all_mistakes_are_said_at_once() -> None:
    found = problems(
        "execution.workers=many",
        "execution.gpus_per_worker=1.5",
        "execution.cpus_per_worker=1.5",
        "execution.timeout=0",
        "execution.address=ray://head:10001",
        "execution.deterministic=perhaps",
        "execution.share=7",
    )
    words = (
        "workers",
        "a whole number up to 8",
        "whole number above 1",
        "timeout",
        "ray://",
        "deterministic",
        "share",
    )
    assert len(found) == 7
    assert all(any(word in problem for problem in found) for word in words)
    assert "one of them out" in problems("execution.device=cpu", "execution.gpus_per_worker=1")[0]
    assert "is for Ray" in problems("execution=local", "+execution.workers=2")[0]
    assert "did you mean 'ray'" in problems("execution.name=rai")[0]


def test_a_worker_may_take_several_gpus() -> None:
    execution = from_data(compose([*SMALL, "execution.gpus_per_worker=2"])).execution
    assert (execution.gpus_per_worker, execution.n_devices) == (2.0, 2)
    assert find_devices(execution) == ("cuda:0", "cuda:1")  # whichever these are: Ray shows it no others
    assert from_data(compose([*SMALL, "execution.gpus_per_worker=0.5"])).execution.n_devices == 1
    assert "up to 8, but came 9" in problems("execution.gpus_per_worker=9")[0]
    assert "uses all that Ray gives it" in problems("execution.gpus_per_worker=2", "execution.device=cuda:1")[0]
    assert "Ray chooses the GPUs" in problems("execution.device=[cuda:0,cuda:1]")[0]


def test_a_local_search_may_name_several_gpus() -> None:
    local = ["execution=local", "execution.device=[cuda:0,cuda:2]"]
    execution = from_data(compose([*SMALL[:2], *local])).execution
    assert (execution.device, execution.n_devices) == ("cuda:0,cuda:2", 2)
    assert find_devices(execution) == ("cuda:0", "cuda:2")
    for wrong in ("[cuda:0,cuda:0]", "[cpu,cuda:0]", "[cuda,cuda:1]"):
        assert "different GPUs" in problems("execution=local", f"execution.device={wrong}", "execution.threads=1")[0]


@pytest.mark.parametrize(
    "words", [["execution.gpus_per_worker=2"], ["execution=local", "execution.device=[cuda:0,cuda:1]"]]
)
def test_what_a_model_over_several_gpus_cannot_do_is_said(words: list[str]) -> None:
    _, found = read(compose(["experiment=zoo_dataflow", "execution=ray", *words]))
    assert len(found) == 1
    assert "over 2 GPUs" in found[0]
    assert "cannot run layer paths" in found[0]
    assert "vllm; give it one GPU" in problems(*words, "execution.threads=1", "evaluation.engine=vllm")[0]


def test_a_worker_that_sees_too_few_gpus_says_so() -> None:
    execution = from_data(compose([*SMALL, "execution.gpus_per_worker=8"])).execution
    (problem,) = device_problems_of(execution)
    assert re.search(r"gpus_per_worker is 8, but torch sees \d GPUs here", problem)


def test_a_job_survives_the_way_to_a_worker() -> None:
    (recipe,) = [prepare(compose(SMALL)).baselines["average"]]
    for items in (None, {"zoo_ja_math": (1, 5)}):
        job = Job(7, recipe, Split.TEST, items)
        there = from_plain(pickle.loads(pickle.dumps(to_plain(job))))
        assert there == job
        assert there.recipe.content_hash == recipe.content_hash


def test_a_stop_that_comes_late_or_early_stops_its_own_job_only() -> None:
    token = CancelToken()
    token.running = 4
    token.cancelled = 3
    assert not token.now()
    token.cancelled = 5
    assert token.now()
    token.running = 6
    assert not token.now()


def test_a_plan_is_plain_and_makes_a_worker_that_scores_as_the_drivers_own(tmp_path: Path) -> None:
    prepared = prepare(compose(SMALL))
    names = checkpoints(prepared.config)
    assert set(names) == {"math", "japanese", "base"}
    prints = {name: fingerprint(prepared.sources.open(source).folder) for name, source in names.items()}
    data = {key: value for key, value in prepared.data.items() if key != "run"}
    plan = pickle.loads(pickle.dumps(WorkerPlan(data, prepared.harness.split_data(), prints)))
    job = Job(0, prepared.baselines["average"], Split.SEARCH)
    there = plan(StopSignal(), WorkerContext(neighbours=2)).run(job)
    local = compose([*SMALL, "execution=local"])
    here = make_executor(prepare(local, recorded_splits=prepared.harness.split_data()), StopSignal())
    here.submit(job)
    assert there.state == State.COMPLETE
    assert there.scores == here.collect().scores


def test_a_worker_with_another_parent_says_which(tmp_path: Path) -> None:
    mine = tmp_path / "math"
    shutil.copytree(zoo_path("math"), mine)
    prepared = prepare(compose([*SMALL, f"models.parents.math={mine}"]))
    names = checkpoints(prepared.config)
    prints = {name: fingerprint(prepared.sources.open(source).folder) for name, source in names.items()}
    data = {key: value for key, value in prepared.data.items() if key != "run"}
    plan = WorkerPlan(data, prepared.harness.split_data(), prints)
    weights = bytearray((mine / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (mine / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"math \(.*\) is another model here than where the search was started"):
        plan(StopSignal(), WorkerContext())
    shutil.rmtree(mine)
    with pytest.raises(CheckpointError, match=r"math: there is no folder"):
        plan(StopSignal(), WorkerContext())


def test_a_fingerprint_tells_models_apart_and_depends_on_no_place(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("evomerge.system.contents.PIECE_BYTES", 100_000)
    prints = {fingerprint(zoo_path(name)) for name in ("base", "math", "japanese")}
    assert len(prints) == 3
    copy = tmp_path / "copy"
    shutil.copytree(zoo_path("math"), copy)
    assert fingerprint(copy) == fingerprint(zoo_path("math"))
    assert fingerprint(copy, whole=True) == fingerprint(zoo_path("math"), whole=True) != fingerprint(copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[len(weights) // 2 + 5000] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert fingerprint(copy, whole=True) != fingerprint(zoo_path("math"), whole=True)
    before = fingerprint(copy)
    (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text() + "\n")
    assert fingerprint(copy) != before
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert fingerprint(copy) != fingerprint(zoo_path("math"))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(zoo_path("math"), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="a pickle, which can run code"):
        prepare(compose([*SMALL, f"models.parents.math={folder}"]))


def test_custom_code_is_for_each_parent_to_allow() -> None:
    config = from_data(compose([*SMALL, "models.parents.math={path: zoo:math, trust_remote_code: true}"]))
    allowed = {name: source.trust_remote_code for name, source in checkpoints(config).items()}
    assert allowed == {"math": True, "japanese": False, "base": False}


def test_secrets_go_to_the_workers_and_not_through_rays_own_environment() -> None:
    from evomerge.execution.pool.cluster import Cluster

    variables = {"HF_TOKEN": "abcdefgh", "OMP_NUM_THREADS": "1", "ENDPOINT": "https://me:hunter22@example.org"}
    cluster = Cluster(runtime_env={"env_vars": variables, "pip": ["x"]})
    assert cluster.secret_variables == {key: variables[key] for key in ("HF_TOKEN", "ENDPOINT")}
    assert cluster._open_runtime_env == {"env_vars": {"OMP_NUM_THREADS": "1"}, "pip": ["x"]}
    assert Cluster(runtime_env={"pip": ["x"]}).secret_variables == {}


def test_a_worker_sets_its_variables_before_it_makes_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from evomerge.execution.pool.actor import RayWorker, WorkerContext

    monkeypatch.setenv("MY_TOKEN", "")
    RayWorker(lambda stop, context: None, WorkerContext(), None, {"MY_TOKEN": "abcdefgh"})  # type: ignore[arg-type,return-value]
    assert os.environ["MY_TOKEN"] == "abcdefgh"
