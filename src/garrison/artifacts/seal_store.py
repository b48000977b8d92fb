"""From a plain store to a sealed one: every object is sealed before its plain bytes go. Safe to repeat."""

from __future__ import annotations

from pathlib import Path

from garrison.core.errors import Refused
from garrison.storage.local import LocalObjects, remove_tree
from garrison.storage.objects import READ_BYTES
from garrison.storage.spooled import SpooledObjects


def seal_all(plain: LocalObjects, sealed: SpooledObjects) -> int:
    """Seal what is plain, and remove it once it is sealed and durable; returns how many.

    A damaged object is no object: its bytes go too, and verifying names the versions that lack it.
    """
    plain.sweep()
    count = 0
    for path in sorted((plain.root / "sha256").glob("??/*")):
        digest = f"sha256:{path.name}"
        writer = sealed.incoming_object()
        try:
            with plain.open(digest) as stream:
                while chunk := stream.read(READ_BYTES):
                    writer.write(chunk)
            writer.commit(digest)
            count += 1
        except Refused:
            writer.abort()
        except BaseException:
            writer.abort()
            raise
        path.unlink()
    remove_tree(plain.root / "sha256")
    return count


def remove_trees(models: Path) -> None:
    """The hard links under the files' own names: what they show is plain."""
    for tree in models.glob("*/*"):
        if tree.is_dir() and not tree.is_symlink():
            remove_tree(tree)
    for leftover in models.glob(".incoming-*"):
        remove_tree(leftover)
