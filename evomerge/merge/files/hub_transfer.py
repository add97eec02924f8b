"""Files from the Hub into its cache: in parallel, continued where they stopped, and checked before they appear there.

huggingface_hub's own download begins a file anew when its process was killed, which for weights may be hours. Here a
file grows under a name of evomerge's own beside the cache's blobs, and gets its place there once its hash is right. The
rest of the cache (which names a commit gives to which blobs) is left to huggingface_hub.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files import hub_errors
from evomerge.merge.files.hub_checked import note_checked
from evomerge.merge.files.hub_listing import Listing, RemoteFile, patiently, pause
from evomerge.system.memory import GIB

log = logging.getLogger(__name__)

WORKERS = 8
"""How many files come at once."""

_CHUNK = 1 << 20
_TRIES = 5
"""How often a connection may break in a row without a byte in between."""

MOST_BY_HTTP = 50 * 10**9
"""The largest file that the Hub gives over plain HTTP, in bytes; larger ones come by its client, through Xet."""

Tell = Callable[[int, int], None]
"""Called with (bytes that are here, bytes in all), now and then."""


class Tally:
    """How much of some files is here; several threads add to it.

    Attributes:
        stopped: set where the download is to end; what is here stays.
    """

    def __init__(self, total: int, tell: Tell | None) -> None:
        self.total, self.stopped = total, threading.Event()
        self._done, self._tell, self._lock = 0, tell, threading.Lock()

    def add(self, n_bytes: int) -> None:
        """Count bytes that came; negative ones have to come again."""
        with self._lock:
            self._done += n_bytes
            if self._tell is not None:
                self._tell(self._done, self.total)


def fetch(wanted: Sequence[tuple[Listing, RemoteFile]], tell: Tell | None = None) -> None:
    """Download files into the cache, several at once; those that are there are not touched.

    Args:
        wanted: repository and file.
        tell: called as bytes come.

    Raises:
        CheckpointError: if the disk is too small, the Hub refuses a file, the connection breaks too often, or what came
            has another hash than the Hub says. What is here stays: the next call goes on from there.
    """
    check_disk(wanted)
    tally = Tally(sum(file.size for _, file in wanted), tell)
    with without_bars(), ThreadPoolExecutor(WORKERS, thread_name_prefix="download") as pool:
        jobs = [pool.submit(_fetch, listing, file, tally) for listing, file in wanted]
        try:
            finished, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in jobs:
                if job in finished:
                    job.result()
        except BaseException:  # one that failed, or Ctrl-C: the others end at their next bytes
            tally.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def check_disk(wanted: Sequence[tuple[Listing, RemoteFile]]) -> None:
    """Check that the disk of the cache has room for files.

    Raises:
        CheckpointError: if it has not.
    """
    needed = sum(file.size - _size(partial(listing, file)) for listing, file in wanted)
    if not needed:
        return
    place = next(one for one in (wanted[0][0].storage, *wanted[0][0].storage.parents) if one.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise CheckpointError(
            f"the models need {needed / GIB:.1f} GiB more in the cache of the Hub, but the disk of {place} has "
            f"{free / GIB:.1f} GiB free. Make room (`hf cache ls`, `hf cache rm`), or set HF_HOME to a folder on "
            "another disk"
        )


@contextlib.contextmanager
def without_bars() -> Iterator[None]:
    """Let huggingface_hub draw no bars of its own for single files."""
    from huggingface_hub import utils

    group = "huggingface_hub.http_get"
    if utils.are_progress_bars_disabled(group):  # type: ignore[attr-defined]
        yield
        return
    with warnings.catch_warnings():  # the user's own variable may insist on them
        warnings.simplefilter("ignore")
        utils.disable_progress_bars(group)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            utils.enable_progress_bars(group)  # type: ignore[attr-defined]


def partial(listing: Listing, file: RemoteFile) -> Path:
    """Return where a file grows until it is whole."""
    blob = listing.blob(file)
    return blob.with_name(f"{blob.name}.evomerge.incomplete")


def head(listing: Listing, file: RemoteFile, n_bytes: int) -> bytes:
    """Return the first bytes of a file, from what is here of it, or else from the Hub.

    They are the beginning of its download, which goes on behind them.

    Raises:
        CheckpointError: as `fetch`.
    """
    n_bytes = min(n_bytes, file.size)
    with _alone(listing, file), _disk_errors(listing):
        blob = listing.blob(file)
        place = blob if _size(blob) >= n_bytes else partial(listing, file)
        if _size(place) < n_bytes:
            _grow(listing, file, n_bytes, Tally(n_bytes, None))
        with place.open("rb") as opened:
            return opened.read(n_bytes)


def sound(path: Path, file: RemoteFile | None = None) -> bool:
    """Return whether a file's content has the hash under which the Hub knows it.

    Args:
        path: the file.
        file: what the Hub says of it; None: a large file that bears its hash as its name.
    """
    file = RemoteFile(path.name, path.stat().st_size, path.name) if file is None else file
    digest = _digest(file)
    with path.open("rb") as opened:
        for chunk in iter(lambda: opened.read(_CHUNK), b""):
            digest.update(chunk)
    return bool(digest.hexdigest() == file.etag)


def _fetch(listing: Listing, file: RemoteFile, tally: Tally) -> None:
    if file.size > MOST_BY_HTTP:
        link(listing, file)
        tally.add(file.size)
        return
    blob = listing.blob(file)
    with _alone(listing, file), _disk_errors(listing):
        if _size(blob) == file.size:  # another process brought it meanwhile
            tally.add(file.size)
        else:
            for again in (True, False):
                digest = _grow(listing, file, file.size, tally)
                if digest == file.etag:
                    break
                partial(listing, file).unlink()
                tally.add(-file.size)
                if not again:
                    raise CheckpointError(
                        f"{file.name} of {listing.path} came damaged twice: its hash is {digest[:12]}…, but the Hub "
                        f"says {file.etag[:12]}…. Try again later, or from another network"
                    )
                log.warning("%s of %s came damaged (its hash is another): once more", file.name, listing.path)
            partial(listing, file).replace(blob)
            note_checked([blob])
    link(listing, file)


def link(listing: Listing, file: RemoteFile) -> None:
    """Give a blob its name in the folder of the commit; a file whose blob is not here is downloaded.

    Raises:
        CheckpointError: as `fetch`.
    """
    from huggingface_hub import hf_hub_download

    try:
        patiently(
            lambda: hf_hub_download(listing.path, file.name, revision=listing.commit),
            lambda error: hub_errors.said(error, listing.path, listing.commit, file.name),
        )
    except hub_errors.UnreachableError as error:
        raise _broken(listing, file, error) from error


def _grow(listing: Listing, file: RemoteFile, until: int, tally: Tally) -> str:
    """Bring the first bytes of a file to where it grows, and return their hash: that of the file, where it is whole."""
    place, digest, tried = partial(listing, file), _digest(file), 0
    if _size(place) > file.size:
        place.unlink()
    with place.open("ab+") as opened:
        opened.seek(0)
        have = 0
        for chunk in iter(lambda: opened.read(_CHUNK), b""):
            digest.update(chunk)
            have += len(chunk)
        tally.add(have)
        while have < until:
            before = have
            try:
                for chunk in _stream(listing, file, have, until):
                    if tally.stopped.is_set():
                        raise CheckpointError("another file could not be downloaded")
                    opened.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    tally.add(len(chunk))
                opened.flush()
                if have < until:  # the connection ended early, without an error
                    raise ConnectionError("the connection ended early")
            except hub_errors.any_error() as error:
                opened.flush()
                if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                    raise  # of the disk
                tried = 1 if have > before else tried + 1
                found = hub_errors.said(error, listing.path, listing.commit, file.name)
                status = hub_errors.status_of(error)
                if tried == _TRIES or (status is not None and status not in (408, 429, 500, 502, 503, 504)):
                    if isinstance(found, hub_errors.UnreachableError):
                        raise _broken(listing, file, found) from error
                    raise found from error
                time.sleep(pause(tried, error))
    return str(digest.hexdigest())


def _stream(listing: Listing, file: RemoteFile, begin: int, until: int) -> Iterator[bytes]:
    """Yield the bytes of a file from one place up to another, as they come."""
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

    headers = {**build_hf_headers(), "Range": f"bytes={begin}-{until - 1}", "Accept-Encoding": "identity"}
    url = hf_hub_url(listing.path, file.name, revision=listing.commit)
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
        hf_raise_for_status(response)
        length = response.headers.get("Content-Length")
        if response.status_code == 200 and length is not None and length != str(file.size):
            what = f"{length} bytes of {response.headers.get('Content-Type')} in place of {file.size}"
            raise _broken(listing, file, hub_errors.foreign(what))
        skip = begin if response.status_code == 200 else 0  # a server between here and there that knows no ranges
        left = until - begin
        for chunk in response.iter_bytes():  # as they come: what is gathered first is lost where a connection is cut
            skipped = min(skip, len(chunk))
            skip -= skipped
            part = chunk[skipped : skipped + left]
            left -= len(part)
            if part:
                yield part
            if not left:
                return


def _digest(file: RemoteFile) -> Any:
    if len(file.etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)  # git's name of a file's content


def _broken(listing: Listing, file: RemoteFile, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the connection broke while {file.name} of {listing.path} was downloaded ({error}). Run the command again: it "
        "goes on where it stopped"
    )


@contextlib.contextmanager
def _alone(listing: Listing, file: RemoteFile) -> Iterator[None]:
    """Hold the lock that huggingface_hub's own downloads of a file hold."""
    from filelock import FileLock

    try:
        listing.blob(file).parent.mkdir(parents=True, exist_ok=True)
        locks = listing.storage.parent / ".locks" / listing.storage.name
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"the cache of the Hub cannot be written ({error}); set HF_HOME to a folder that can"
        ) from error
    with FileLock(locks / f"{file.etag}.lock"):
        yield


@contextlib.contextmanager
def _disk_errors(listing: Listing) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"cannot write to the cache of the Hub, {listing.storage.parent}: {error.strerror or error}. Make room "
            "there (`hf cache ls`, `hf cache rm`), or set HF_HOME to a folder on another disk; a download goes on "
            "where it stopped"
        ) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
