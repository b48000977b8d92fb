"""`garrison://NAME/VERSION` as a place of artifacts: reading is a verified pull of an approved version."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from garrison_mlflow.command import ask, check_approved, check_verified, parse, refused


class GarrisonArtifactRepository(ArtifactRepository):
    """Writing publishes (scanned, signed, not yet approved); a version is whole and is written once."""

    def __init__(self, artifact_uri: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(artifact_uri, *args, **kwargs)
        self._uri = artifact_uri.rstrip("/")

    def _at(self, path: str | None) -> tuple[str, str]:
        """MLflow may cut an address anywhere: `garrison://fraud` and `1/config.json` are one version and a file."""
        return parse("/".join(part for part in (self._uri, path) if part).rstrip("/"))

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:  # noqa: ARG002 - named by MLflow
        raise refused("a version is published whole: use log_artifacts with the model's directory")

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        ref, inside = self._at(artifact_path)
        if inside:
            raise refused("a version is published whole, not below a path of another")
        owner, tier = os.environ.get("GARRISON_OWNER", ""), os.environ.get("GARRISON_TIER", "")
        if not owner or not tier:
            raise refused("set GARRISON_OWNER and GARRISON_TIER: who answers for the model, and its tier")
        ask("model", "publish", os.path.abspath(local_dir), "--as", ref, "--owner", owner, "--tier", tier)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        ref, prefix = self._at(path)
        found: dict[str, FileInfo] = {}
        for entry in check_verified(ref)["manifest"]:
            name = str(entry["path"])
            if prefix and not name.startswith(prefix + "/"):
                continue
            rest = name[len(prefix) + 1 :] if prefix else name
            head, is_deeper, _ = rest.partition("/")
            shown = f"{path}/{head}" if path else head
            found[shown] = FileInfo(shown, bool(is_deeper), None if is_deeper else int(entry["size"]))
        return [found[name] for name in sorted(found)]

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Pull, verify, and hand over what was asked for. Nothing that is not approved leaves the registry."""
        ref, inside = self._at(artifact_path)
        check_approved(ref)
        room = Path(tempfile.mkdtemp(prefix="garrison-"))
        try:
            pulled = room / "model"
            ask("model", "pull", ref, str(pulled))
            wanted = (pulled / inside).resolve()
            if not wanted.is_relative_to(pulled.resolve()) or not wanted.exists():
                raise refused(f"{ref} has no {inside}")
            target = Path(dst_path or tempfile.mkdtemp())
            if wanted.is_dir():
                shutil.copytree(wanted, target / artifact_path, dirs_exist_ok=True)
            else:
                (target / artifact_path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(wanted, target / artifact_path)
            return str(target / artifact_path)
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        with tempfile.TemporaryDirectory() as room:
            shutil.copyfile(self.download_artifacts(remote_file_path, room), local_path)
