"""Real processes: killed, resumed, run from another folder, stopped with Ctrl-C."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm import Warm

from evomerge import api
from evomerge.cli.compose import compose

SMALL = [
    "experiment=zoo_ja_math",
    "budget.candidates=16",
    "evaluation.split={search:8,validation:8,test:8}",
    "evaluation.finalists=2",
    "execution.threads=1",
]
EVOMERGE = [sys.executable, "-m", "evomerge"]


def evomerge(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*EVOMERGE, *words], capture_output=True, text=True, timeout=300, **options)


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*EVOMERGE, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def records(run: Path) -> list[dict]:
    done = evomerge("records", str(run), "--baselines")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def wait_for_records(run: Path, at_least: int) -> None:
    """Wait until the database holds so many rows, reading beside the writer."""
    from evomerge.errors import RunError
    from evomerge.store import RunDir

    for _ in range(2400):
        try:
            with RunDir.open(run) as opened:
                if opened.database.count(baselines=True) >= at_least:
                    return
        except RunError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{run} never had {at_least} records")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an uninterrupted local search."""
    return api.search(compose(SMALL), run_dir=tmp_path_factory.mktemp("whole") / "run").path


@pytest.mark.slow
def test_a_search_killed_three_times_has_the_records_of_an_uninterrupted_one(whole: Path, tmp_path: Path) -> None:
    killed, log = tmp_path / "killed", tmp_path / "log"
    rng = random.Random(0)
    words = ["search", *SMALL, f"run.dir={killed}"]
    for at_least in (2, 7, 13):
        process = Warm(*words, log=log)
        wait_for_records(killed, at_least)
        time.sleep(rng.random() * 0.3)  # anywhere: in the middle of a merge, of a generation, of a commit
        process.kill()
        words = ["resume", str(killed)]
        assert api.status(killed)["state"] == "interrupted"
    status, out = Warm("resume", str(killed), log=log).end()
    assert status == 0, out
    assert records(killed) == records(whole)
    one, two = api.status(whole), api.status(killed)
    for key in ("state", "candidates", "items", "baselines", "best"):
        assert one[key] == two[key]


@pytest.mark.slow
def test_two_ray_workers_give_the_records_of_a_local_search_and_status_shows_them(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "ray"
    process = Warm("search", *SMALL, "execution=ray", "execution.workers=2", f"run.dir={run}", log=tmp_path / "log")
    try:
        wait_for_records(run, 4)
        status = json.loads(evomerge("status", str(run), "--json").stdout)
        assert {worker["id"] for worker in status["workers"]["workers"]} == {0, 1}
        status, out = process.end()
    finally:
        process.kill()
    assert status == 0, out
    assert records(run) == records(whole)


@pytest.mark.slow
def test_ctrl_c_finishes_the_candidate_and_another_budget_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    many = [word if not word.startswith("budget") else "budget.candidates=5000" for word in SMALL]
    process = start("search", *many, f"run.dir={run}")
    wait_for_records(run, 5)
    busy = evomerge("resume", str(run))
    assert busy.returncode == 2
    assert f"process {process.pid}" in busy.stderr
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "stopping after the running candidate" in out
    status = json.loads(evomerge("status", str(run), "--json").stdout)
    assert status["state"] == "interrupted"
    done = status["candidates"]
    assert 2 <= done < 5000
    code, out = Warm("resume", str(run), f"budget.candidates={done + 3}", log=tmp_path / "log").end()
    assert code == 0, out
    assert [record["id"] for record in records(run)] == [-3, -2, -1, *range(done + 3)]


@pytest.mark.slow
def test_bad_input_ends_before_a_model_is_loaded_with_all_mistakes_and_no_folder(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    words = [
        *("search", *SMALL, "method.name=tie", "optimizer.sigma=-1", "models.parents.math=zoo:mth", "run.dir=run"),
        "evaluation.tasks=[{name:zoo_ja_math,metric:accuracy}]",
    ]
    code, out = Warm(*words, log=tmp_path / "log", cwd=here).end()
    assert code == 2
    assert all(part in out for part in ("did you mean 'ties'", "mth", "accuracy"))
    assert "Traceback" not in out
    code, out = Warm("search", *SMALL, "budgt.candidates=3", log=tmp_path / "log", cwd=here).end()
    assert code == 2
    assert "budgt" in out
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_a_sweep_runs_each_job_in_its_own_folder(tmp_path: Path) -> None:
    few = [word if not word.startswith("budget") else "budget.candidates=1" for word in SMALL]
    words = ["search", *few, "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    code, out = Warm(*words, log=tmp_path / "log", cwd=tmp_path).end()
    assert code == 0, out
    for job in ("0", "1"):
        assert api.status(tmp_path / "sweep" / job)["state"] == "complete"


def test_the_composed_configuration_is_printed(tmp_path: Path) -> None:
    done = evomerge("search", "experiment=zoo_ja_math", "seed=7", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0
    assert "seed: 7" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_exported_merge_answers_with_plain_transformers(zoo_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "merge"
    code, printed = Warm("export", str(zoo_run), "--out", str(out), log=tmp_path / "log").end()
    assert code == 0, printed
    program = f"""
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(out)!r})
model = AutoModelForCausalLM.from_pretrained({str(out)!r})
prompt = tokenizer("太郎はりんごを3個持っています。", return_tensors="pt", return_token_type_ids=False)
answer = model.generate(**prompt, max_new_tokens=8)
assert answer.shape[1] > prompt["input_ids"].shape[1]
assert "evomerge" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_wheel_works_from_another_folder(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    options = ["--no-deps", "--quiet"]
    built = subprocess.run(
        [*pip, "wheel", *options, "--wheel-dir", str(tmp_path / "wheels"), str(root)], capture_output=True, text=True
    )
    if built.returncode and "No matching distribution" in built.stderr + built.stdout:
        pytest.skip("the build backend cannot be fetched here")
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "wheels").glob("evomerge-*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", *options, "--target", str(site), str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import evomerge; print(evomerge.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert where.stdout.startswith(str(site))
    few = [word if not word.startswith("budget") else "budget.candidates=1" for word in SMALL]
    done = evomerge("search", *few, "run.dir=run", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "best.yaml").is_file()
