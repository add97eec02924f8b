"""The best merge of a run, its whole front, or a model folder, to the Hub."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.errors import ExportError
from evomerge.export.from_run import chosen_record, outline_run
from evomerge.export.hf_folder import RECIPE_FILE
from evomerge.export.hub import Hub, Pushed, check_repo_id, refuse_overwriting
from evomerge.export.hub import push as push_folder
from evomerge.export.hub_place import HubPlace, content_id
from evomerge.export.publication import Publication, related_section, slug
from evomerge.record import Record
from evomerge.store.run_dir import RunDir
from evomerge.system.leftovers import scratch_folder
from evomerge.workflows import Progress
from evomerge.workflows.published import published_config

if TYPE_CHECKING:
    from evomerge.merge.sources import Sources

BRANCHES, COLLECTION = "branches", "collection"
"""How several merges are published."""


@dataclass(frozen=True)
class PushOptions:
    """How merges are uploaded.

    Attributes:
        private: whether new repositories are private.
        dry_run: whether only to say what would go.
        token: the Hub's token; None: from HF_TOKEN or the login of the Hub's own command.
        branch: of one merge; None: `main`.
        overwrite: whether other files that are there may be replaced.
        pull_request: whether to propose it as a pull request.
        answers: whether cards show answers.
        force: whether a merge goes however it answers before it appears, as in `export`.
    """

    private: bool = True
    dry_run: bool = False
    token: str | None = None
    branch: str | None = None
    overwrite: bool = False
    pull_request: bool = False
    answers: bool = True
    force: bool = False


def push(
    run_dir: str | Path,
    repo_id: str,
    options: PushOptions = PushOptions(),
    *,
    candidates: Sequence[int] = (),
    front: bool = False,
    several: str = BRANCHES,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> list[Pushed]:
    """Upload merges of a run, or a folder made by `export`; see `evomerge.api.push`."""
    folder = Path(run_dir)
    if is_model_folder(folder):
        if candidates or front:
            raise ExportError(f"{folder} is a model folder, which is one model: --front and --candidates are of a run")
        return [
            push_folder(
                folder,
                repo_id,
                private=options.private,
                dry_run=options.dry_run,
                token=options.token,
                branch=options.branch,
                overwrite=options.overwrite,
                pull_request=options.pull_request,
            )
        ]
    if several not in (BRANCHES, COLLECTION):
        raise ExportError(f"several merges are published as {BRANCHES} or as a {COLLECTION}, but came {several!r}")
    check_repo_id(repo_id)
    with RunDir.open(folder, frozen=True) as run:
        records = _records(run, candidates, front)
        if len(records) > 1 and (options.branch is not None or options.pull_request):
            raise ExportError("--branch and --pr are for one merge; several have branches or repositories of their own")
        return _Upload(run, repo_id, options, records, front, several, say, progress).push()


def is_model_folder(folder: Path) -> bool:
    """Return whether a folder holds a model, an adapter or GGUF files, rather than a run."""
    names = ("config.json", "adapter_config.json")
    return any((folder / name).is_file() for name in names) or any(folder.glob("*.gguf"))


class _Upload:
    """The upload of some merges of a run: everything is asked before anything is made, and made before it is built."""

    def __init__(
        self,
        run: RunDir,
        repo_id: str,
        options: PushOptions,
        records: Sequence[Record],
        front: bool,
        several: str,
        say: Callable[[str], None],
        progress: Progress | None,
    ) -> None:
        self._run, self._options, self._records, self._say, self._progress = run, options, records, say, progress
        self._front, self._several = front, several
        self._sources: Sources | None = None
        self._hub = Hub(options.token, dry_run=options.dry_run)
        self._places = dict(self._find(repo_id))

    def push(self) -> list[Pushed]:
        planned = {record.number: self._planned(record) for record in self._records}
        if self._options.dry_run:
            return list(planned.values())
        for number, place in self._places.items():
            self._places[number] = self._hub.prepare(place, private=self._options.private)
        done = {}
        # The chosen one goes last, so that its card links nothing that is not there yet.
        for i, record in enumerate(reversed(self._records), 1):
            if planned[record.number].commit is not None:
                done[record.number] = replace(planned[record.number], commit=None)
                self._say(f"{self._places[record.number].name} has {record.name} already")
                continue
            if len(self._records) > 1:
                self._say(f"{record.name} ({i} of {len(self._records)}) to {self._places[record.number].name}")
            with self._built(record) as folder:
                self._say(f"uploading to {self._places[record.number].name}")
                done[record.number] = self._upload(folder, self._places[record.number])
        if self._several == COLLECTION and len(self._records) > 1:
            self._say(f"collection: {self._collected()}")
        return [done[record.number] for record in self._records]

    def _find(self, repo_id: str) -> Iterator[tuple[int, HubPlace]]:
        options = self._options
        for i, record in enumerate(self._records):
            name, branch = repo_id, options.branch
            if i > 0 and self._several == BRANCHES:
                branch = self._slug(record)
            elif i > 0:
                name = f"{repo_id}-{self._slug(record)}"
                check_repo_id(name)
            yield (
                record.number,
                self._hub.find(name, branch, private=options.private, pull_request=options.pull_request),
            )

    def _slug(self, record: Record) -> str:
        name = slug(record.name)
        return name if [slug(one.name) for one in self._records].count(name) == 1 else f"{name}-{record.number}"

    def _publication(self, record: Record) -> Publication:
        places = {number: Publication(place.repo_id, place.branch) for number, place in self._places.items()}
        section = related_section(self._run, self._records, places, record.number, front=self._front)
        return replace(places[record.number], related=section)

    def _planned(self, record: Record) -> Pushed:
        """Return what will go, without building it; `commit` is that of the same merge where it is there already."""
        place = self._places[record.number]
        with scratch_folder("evomerge-push-") as scratch:
            folder = Path(scratch) / "outline"
            folder.mkdir()
            files = outline_run(
                self._run,
                folder,
                number=record.number,
                config=published_config(self._run),
                answers=self._options.answers,
                published=self._publication(record),
            )
            same_recipe = RECIPE_FILE in place.files and not place.files[RECIPE_FILE].large and (
                content_id(folder / RECIPE_FILE, large=False) == place.files[RECIPE_FILE].id
            )  # fmt: skip
        removed = tuple(sorted(set(place.files) - {file.path for file in files}))
        found = Pushed(place, self._options.private, tuple(files), removed)
        if not same_recipe:
            allowed = self._options.overwrite or self._options.pull_request
            refuse_overwriting(place, overwrite=allowed, dry_run=self._options.dry_run)
            return found
        # One commit has all files of a merge, so the same recipe with weights of the same size is the same merge.
        same = (
            len(self._records) > 1
            and not self._options.overwrite
            and (
                _weights({file.path: file.size for file in files})
                == _weights({name: file.size for name, file in place.files.items()})
            )
        )
        return replace(found, commit=place.head) if same else found

    @contextlib.contextmanager
    def _built(self, record: Record) -> Iterator[Path]:
        # With torch, which neither a dry run nor a model folder needs.
        from evomerge.merge.sources import Sources
        from evomerge.workflows.export import export

        self._sources = self._sources or Sources()  # parents are opened once for all merges
        with scratch_folder("evomerge-push-") as scratch:
            place = self._places[record.number]
            yield export(
                self._run.path,
                Path(scratch) / place.repo_id.rpartition("/")[2],
                candidate=record.number,
                progress=self._progress,
                answers=self._options.answers,
                force=self._options.force,
                published=self._publication(record),
                sources=self._sources,
            )

    def _upload(self, folder: Path, place: HubPlace) -> Pushed:
        options = self._options
        return self._hub.upload(
            folder,
            place,
            private=options.private,
            overwrite=options.overwrite,
            pull_request=options.pull_request,
        )

    def _collected(self) -> str:
        first = self._places[self._records[0].number].repo_id
        notes = {}
        for record in self._records:
            score = next(iter((record.scores or {}).values()), None)
            said = "" if score is None else f", score {score.mean:.4g}"
            chosen = " (the chosen one)" if record is self._records[0] else ""
            notes[self._places[record.number].repo_id] = f"{record.name}{chosen}{said}"
        title = first.rpartition("/")[2]
        return self._hub.collect(title, first, notes, private=self._options.private)


def _records(run: RunDir, candidates: Sequence[int], front: bool) -> list[Record]:
    """Return the merges to publish, the chosen one first.

    Raises:
        ExportError: if there is no such merge, or one is a parent or the average.
    """
    if candidates and front:
        raise ExportError("--front publishes the merges with which the search ended; --candidates names others")
    choice = run.database.choice()
    if front and choice is None:
        raise ExportError(f"the search of {run.path} has not ended, so it has no front yet; --candidates names merges")
    numbers: list[int | None] = [*(choice.records if front and choice is not None else candidates)] or [None]
    records = [chosen_record(run, number) for number in dict.fromkeys(numbers)]
    baselines = [record.name for record in records if record.is_baseline]
    if baselines and len(records) > 1:
        raise ExportError(f"{', '.join(baselines)}: a parent or the average is no merge of the search; leave it out")
    if choice is not None and candidates:
        records.sort(key=lambda record: record.number != choice.best)  # stable: the others stay in order
    return records


def _weights(sizes: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if name.endswith(".safetensors")}
