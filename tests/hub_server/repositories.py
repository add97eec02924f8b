"""Repositories as the Hub keeps them: commits of files, branches and tags, who may read them, and large files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LARGE = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".model", ".msgpack", ".h5", ".npz", ".onnx")
"""Ends of names that the Hub's `.gitattributes` stores as large files."""


def is_large(name: str, content: bytes) -> bool:
    """Return whether a file is stored as a large file (LFS), under its SHA-256."""
    return name.endswith(LARGE) or len(content) > 10 * 1024 * 1024


def git_id(content: bytes) -> str:
    """Return git's name of a file's content (SHA-1 of its blob)."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, repr=False)
class File:
    """A file of a commit."""

    content: bytes
    large: bool

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.content)

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, hex."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """The text that git stores in place of a large file."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def blob_id(self) -> str:
        """Git's name of what it stores: the content, or the pointer to a large file."""
        return git_id(self.pointer if self.large else self.content)

    @property
    def etag(self) -> str:
        """What the Hub gives as the ETag: the SHA-256 of a large file, git's name of another."""
        return self.sha256 if self.large else self.blob_id


@dataclass
class Repository:
    """A repository: `kind` is model, dataset or space.

    Attributes:
        private: whether only tokens in `readers` see it.
        gated: whether everyone sees it, and only tokens in `readers` may have its files.
        readers: tokens that may read it.
        card: front matter of its README, as the Hub's API gives it (`cardData`).
        commits: files of each commit, by the commit's id.
        messages: title of each commit.
        parents: the commit before each; "" before the first.
        branches: name to commit.
        tags: name to commit.
    """

    name: str
    kind: str = "model"
    private: bool = False
    gated: bool = False
    readers: set[str] = field(default_factory=set)
    card: dict[str, Any] = field(default_factory=dict)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(
        self,
        changes: Mapping[str, bytes | File | None],
        *,
        branch: str = "main",
        message: str = "a commit",
    ) -> str:
        """Add a commit on top of a branch, and return its id.

        Args:
            changes: name to content; None deletes a file.
            branch: which branch; it is made where it is not there.
            message: its title.
        """
        parent = self.branches.get(branch, "")
        files = dict(self.commits.get(parent, {}))
        for name, content in changes.items():
            if content is None:
                files.pop(name, None)
            else:
                files[name] = content if isinstance(content, File) else File(content, is_large(name, content))
        tree = "".join(f"{name}\0{files[name].blob_id}\n" for name in sorted(files))
        text = f"{self.name}\n{parent}\n{message}\n{tree}"
        made = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[made] = files
        self.messages[made] = message
        self.parents[made] = parent
        self.branches[branch] = made
        return made

    def add_folder(self, folder: Path, *, branch: str = "main") -> str:
        """Add a commit with every file of a folder, and return its id."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return self.commit({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, branch=branch)

    def resolve(self, revision: str) -> str | None:
        """Return the commit that a branch, tag or (part of a) commit id names."""
        for names in (self.branches, self.tags):
            if revision in names:
                return names[revision]
        if len(revision) < 7:
            return None
        return next((commit for commit in self.commits if commit.startswith(revision)), None)

    def seen_by(self, token: str | None) -> bool:
        """Return whether this token (None: nobody) sees that the repository exists."""
        return not self.private or token in self.readers

    def readable_by(self, token: str | None) -> bool:
        """Return whether this token may have the files."""
        return self.seen_by(token) and (not self.gated or token in self.readers)


@dataclass
class Repositories:
    """All repositories, by kind and name, and the tokens that there are.

    Attributes:
        tokens: token to its user's name.
        orgs: token to further namespaces in which it may write.
        moved: a repository's old name to its new one.
        roles: token to "read", "write" or "fineGrained"; else it is "write".
        stored: content of the large files that were uploaded, by SHA-256, whether a commit has them or not.
        part_size: bytes above which a large file is uploaded in parts of that size.
        quota: most bytes of uploaded large files; None: any.
        collections: collections by their slugs, as the Hub's API gives them.
    """

    found: dict[tuple[str, str], Repository] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    orgs: dict[str, set[str]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    part_size: int = 5 << 30
    quota: int | None = None
    collections: dict[str, dict[str, Any]] = field(default_factory=dict)

    def create(self, name: str, *, kind: str = "model", **settings: Any) -> Repository:
        """Make an empty repository, with a first commit without files, and return it."""
        made = Repository(name, kind, **settings)
        made.commit({}, message="initial commit")
        self.found[kind, name] = made
        return made

    def get(self, name: str, kind: str = "model") -> Repository | None:
        """Return a repository, or None."""
        return self.found.get((kind, name))

    def large_file(self, sha256: str) -> File | None:
        """Return a large file of any repository by its SHA-256."""
        for repository in self.found.values():
            for files in repository.commits.values():
                for file in files.values():
                    if file.large and file.sha256 == sha256:
                        return file
        return None
