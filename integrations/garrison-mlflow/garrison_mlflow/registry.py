"""A model registry store that asks Garrison first. It wraps whatever store the rest of the address names.

    mlflow server --registry-store-uri garrison+sqlite:///mlflow.db     every client is bound by it
    mlflow.set_registry_uri("garrison+https://mlflow.example.org")      this client alone is

A version may be made from `garrison://NAME/VERSION` that is verified. An alias or the stages Production and
Staging are given to a version that is approved: one whose source is such an address, or one that Garrison
imported (`garrison import mlflow`) and that is still what it was then.
"""

from __future__ import annotations

from typing import Any

from garrison_mlflow.command import ask, check_approved, check_verified, parse, refused

PREFIX = "garrison+"
GUARDED_STAGES = frozenset({"production", "staging"})


def guarded_store(store_uri: str, tracking_uri: str | None = None) -> Any:  # noqa: ARG001 - named by MLflow
    """The store behind the address, guarded."""
    inner = _inner(store_uri.removeprefix(PREFIX))

    class GuardedStore(type(inner)):  # type: ignore[misc]  # MLflow asks isinstance of its own stores
        """The store itself with four of its methods guarded; everything else is untouched."""

        def create_model_version(self, name: str, source: str, *args: Any, **kwargs: Any) -> Any:
            if not source.startswith("garrison://"):
                raise refused(
                    f"models:/{name} would point at files that nobody scanned or signed. Next: garrison model "
                    f"publish DIR --as {name}@N --owner WHO --tier TIER, then register garrison://{name}/N"
                )
            check_verified(parse(source)[0])
            return super().create_model_version(name, source, *args, **kwargs)

        def set_registered_model_alias(self, name: str, alias: str, version: str) -> Any:
            self._garrison_check(name, str(version))
            return super().set_registered_model_alias(name, alias, version)

        def transition_model_version_stage(
            self, name: str, version: str, stage: str, *args: Any, **kwargs: Any
        ) -> Any:
            if stage.lower() in GUARDED_STAGES:
                self._garrison_check(name, str(version))
            return super().transition_model_version_stage(name, version, stage, *args, **kwargs)

        def rename_registered_model(self, name: str, new_name: str) -> Any:
            for row in ask("import", "list")["imports"]:
                if row["source"].get("name") == name:
                    raise refused(
                        f"{name} was imported as {row['ref']}; under another name it could not be compared"
                    )
            return super().rename_registered_model(name, new_name)

        def _garrison_check(self, name: str, version: str) -> None:
            source = str(self.get_model_version(name, version).source)
            if source.startswith("garrison://"):
                check_approved(parse(source)[0])
                return
            for row in ask("import", "list")["imports"]:
                place = row["source"]
                if row["kind"] == "mlflow" and (place.get("name"), place.get("version")) == (name, version):
                    check_approved(row["ref"])
                    drift = ask("drift", row["ref"])
                    if drift.get("verdict") != "same":
                        raise refused(f"models:/{name}/{version} is not what was imported as {row['ref']}")
                    return
            raise refused(
                f"models:/{name}/{version} is not known. Next: garrison import mlflow models:/{name}/{version} "
                f"--as {name}@{version} --owner WHO --tier TIER, then have it approved"
            )

    inner.__class__ = GuardedStore
    return inner


def _inner(uri: str) -> Any:
    if uri.startswith(("http://", "https://")):
        from functools import partial

        from mlflow.store.model_registry.rest_store import RestStore
        from mlflow.utils.credentials import get_default_host_creds

        return RestStore(partial(get_default_host_creds, uri))
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    return SqlAlchemyStore(uri)
