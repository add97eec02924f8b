"""The best merge of a run, or a model folder, to the Hub."""

from __future__ import annotations

from pathlib import Path

from evomerge.export import push as push_folder
from evomerge.system.leftovers import scratch_folder
from evomerge.workflows.export import export


def push(
    run_dir: str | Path, repo_id: str, *, private: bool, dry_run: bool, token: str | None, answers: bool = True
) -> list[tuple[str, int]]:
    """Upload a run's best merge, or a folder made by `export`; see `evomerge.api.push`."""
    folder = Path(run_dir)
    with scratch_folder("evomerge-push-") as scratch:
        if not (folder / "config.json").is_file():
            folder = export(folder, Path(scratch) / repo_id.rpartition("/")[2], answers=answers)
        files = push_folder(folder, repo_id, private=private, dry_run=dry_run, token=token)
        return [(file.path, file.size) for file in files]
