#!/usr/bin/env bash
# Tries the lowest versions that pyproject.toml allows: installs them into a fresh environment and runs searches in it.
#
#   scripts/lowest_versions.sh [FOLDER]     FOLDER keeps the environment, the runs and the logs (default: a new temporary one)
#   TRY="numpy==2.1.0 ray==2.44.0" scripts/lowest_versions.sh    other versions of some packages, to look for a bound
#   STEPS="imports search" scripts/lowest_versions.sh FOLDER     only these; an environment that is in FOLDER is used again
#
# PYTHON names the interpreter (default: python3.11). pip obeys its own variables: PIP_EXTRA_INDEX_URL, say, for builds of
# torch without CUDA, which are gigabytes smaller. Other steps go on after one that fails. Takes five minutes.
set -u

here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd)
steps=${STEPS:-imports search paths resume merge export verify show report optimizer engine ray}
bin=$folder/venv/bin
small="evaluation.split={search:12,validation:12,test:12} evaluation.finalists=2"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1

pins() { # NAME==LOWEST of every dependency, but those that TRY names
    "$bin/python" - "$here/pyproject.toml" ${TRY:-} <<'PYTHON'
import re, sys, tomllib

with open(sys.argv[1], "rb") as file:
    lowest = tomllib.load(file)["project"]["dependencies"]
tried = {one.split("==")[0].lower(): one for one in sys.argv[2:]}
for one in lowest:
    found = re.fullmatch(r"([\w-]+)>=([\w.]+)(,.*)?", one.replace(" ", ""))
    if found is None:
        sys.exit(f"{one!r} of pyproject.toml has no lower bound")
    print(tried.pop(found[1].lower(), f"{found[1]}=={found[2]}"))
print(*tried.values(), sep="\n")
PYTHON
}

imports() { # every module, but those of engines that are extras
    "$bin/python" - <<'PYTHON'
import importlib, pkgutil
import evomerge, pydantic

for module in pkgutil.walk_packages(evomerge.__path__, "evomerge."):
    if "vllm" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
PYTHON
}

search() { "$bin/evomerge" search experiment=zoo_ja_math budget.candidates=4 $small run.dir=runs/search; }

paths() { "$bin/evomerge" search experiment=zoo_dataflow budget.candidates=3 $small run.dir=runs/paths; }

candidates() { # of a run; 0 while there is none
    "$bin/evomerge" status "$1" --json 2>/dev/null | "$bin/python" -c 'import json, sys; print(json.load(sys.stdin)["candidates"])' 2>/dev/null || echo 0
}

resume() { # after kill -9 among the candidates
    "$bin/evomerge" search experiment=zoo_ja_math budget.candidates=12 $small run.dir=runs/resume &
    local process=$!
    while kill -0 $process 2>/dev/null && [ "$(candidates runs/resume)" -lt 2 ]; do :; done
    kill -9 $process
    wait $process 2>/dev/null
    echo "killed after $(candidates runs/resume) candidates"
    "$bin/evomerge" resume runs/resume && [ "$(candidates runs/resume)" -eq 12 ]
}

merge() { "$bin/evomerge" merge runs/search/best.yaml merged && "$bin/evomerge" merge runs/paths/best.yaml merged_path; }

export_() { "$bin/evomerge" export runs/search --out exported && "$bin/evomerge" export runs/paths --out exported_path; }

verify() {
    "$bin/evomerge" verify runs/search merged && "$bin/evomerge" verify runs/search exported &&
        "$bin/evomerge" verify runs/paths exported_path
}

show() { "$bin/evomerge" show runs/paths --out path && [ -s path.png ]; }

report() { # a page and pictures; the step fails with a figure that fails
    "$bin/evomerge" report runs/search && "$bin/evomerge" report runs/paths --figures pictures --format png
}

optimizer() { "$bin/evomerge" search experiment=zoo_ja_math optimizer=nevergrad budget.candidates=4 $small run.dir=runs/optimizer; }

engine() { "$bin/evomerge" search experiment=zoo_ja_math evaluation.engine=lm-eval budget.candidates=2 $small run.dir=runs/engine; }

ray() { "$bin/evomerge" search experiment=zoo_ja_math execution=ray execution.workers=2 budget.candidates=4 $small run.dir=runs/ray; }

cd "$folder" || exit 1
if [ ! -e venv/installed ]; then
    "${PYTHON:-python3.11}" -m venv venv && pins >pins.txt || exit 1
    cat pins.txt
    if ! "$bin/python" -m pip install --disable-pip-version-check $(cat pins.txt) "$here" >install.log 2>&1; then
        echo "these cannot be installed together; $folder/install.log ends:"
        tail -20 install.log
        exit 1
    fi
    touch venv/installed
fi
rm -rf runs merged* exported* path.* pictures
failed=()
for step in $steps; do
    name=$step
    [ "$step" = export ] && name=export_
    printf '%-10s' "$step"
    start=$SECONDS
    if $name >"$step.log" 2>&1; then
        echo "works ($((SECONDS - start)) s)"
    else
        failed+=("$step")
        echo "FAILS ($((SECONDS - start)) s), $folder/$step.log ends:"
        tail -4 "$step.log" | sed 's/^/    /'
    fi
done
[ ${#failed[@]} -eq 0 ]
