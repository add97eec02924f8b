"""Images in the documents and requests of tasks: which tasks can show them, and images as text."""

from __future__ import annotations

import hashlib
from typing import Any

from evomerge.system.processor import INSTALL, has_pillow


def showing_problems(name: str, images: Any, audio: Any, output_type: str) -> list[str]:
    """Return why a task that shows something besides text cannot be run, one sentence each; nothing for others.

    Args:
        name: the task.
        images: its `doc_to_image`.
        audio: its `doc_to_audio`.
        output_type: its `output_type`.
    """
    if audio:
        return [f"task {name!r} plays audio to the model; only text and images are supported"]
    if not images:
        return []
    problems = []
    if output_type != "generate_until":
        problems.append(
            f"task {name!r} shows images and is of the kind {output_type}, but of images lm-eval asks for answers in "
            "text alone; give it output_type: generate_until, with the options in the question"
        )
    if not has_pillow():
        problems.append(f"task {name!r} shows images, which are read by Pillow, but it is not installed: {INSTALL}")
    return problems


def is_image(value: Any) -> bool:
    """Return whether a value is an image of Pillow, without importing it."""
    return all(hasattr(value, name) for name in ("tobytes", "mode", "size", "getpixel"))


def image_digest(value: Any) -> str:
    """Return the SHA-256 (hex) of an image's size, mode and pixels."""
    digest = hashlib.sha256(f"{value.mode}\0{value.size}\0".encode())
    digest.update(value.tobytes())
    return digest.hexdigest()


def image_text(value: Any) -> str:
    """Return an image as text: its size, mode, and the beginning of its hash; pixels are not kept."""
    width, height = value.size
    return f"<image {width}×{height} {value.mode}, SHA-256 {image_digest(value)[:16]}>"
