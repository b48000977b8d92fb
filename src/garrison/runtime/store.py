"""The tables of what serves: one deployment a name, and routes to models that something else serves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from garrison.core.decision import Tier
from garrison.core.digest import Ref
from garrison.core.event import format_time
from garrison.storage.sql import metadata

DEPLOYMENTS = sa.Table(
    "deployments",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    # The approved-list counter of the serving version: nothing below it loads, but by a named rollback.
    sa.Column("floor", sa.Integer, nullable=False),
    sa.Column("isolation", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("deployed_by", sa.Text, nullable=False),
)

ROUTES = sa.Table(
    "routes",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("upstream", sa.Text, nullable=False),
    sa.Column("tier", sa.Text, nullable=False),
    sa.Column("tasks", sa.Text, nullable=False),
    sa.Column("added_by", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    # JSON, or empty: other servers, keys by file, how answers are inspected.
    sa.Column("options", sa.Text, nullable=False, server_default=""),
)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What should be serving for a name. `state` is `serving` or `stopped`."""

    ref: Ref
    digest: str
    floor: int
    isolation: str
    state: str
    deployed_by: str
    time: str

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.ref.name,
            "version": self.ref.version,
            "digest": self.digest,
            "isolation": self.isolation,
            "state": self.state,
            "deployed_by": self.deployed_by,
            "time": self.time,
        }


@dataclass(frozen=True, slots=True)
class Route:
    """A model behind the gateway that Garrison does not run itself."""

    name: str
    upstream: str
    tier: Tier
    tasks: frozenset[str]
    options: str = ""


def find_deployment(connection: sa.Connection, name: str) -> Deployment | None:
    row = connection.execute(sa.select(DEPLOYMENTS).where(DEPLOYMENTS.c.name == name)).one_or_none()
    return None if row is None else _deployment(row)


def deployments(connection: sa.Connection) -> list[Deployment]:
    return [
        _deployment(row) for row in connection.execute(sa.select(DEPLOYMENTS).order_by(DEPLOYMENTS.c.name))
    ]


def save_deployment(
    connection: sa.Connection, ref: Ref, *, digest: str, floor: int, isolation: str, by: str, now: datetime
) -> None:
    """Make `ref` the version that serves its name."""
    values = {
        "version": ref.version,
        "digest": digest,
        "floor": floor,
        "isolation": isolation,
        "state": "serving",
        "deployed_by": by,
        "time": format_time(now),
    }
    updated = connection.execute(DEPLOYMENTS.update().where(DEPLOYMENTS.c.name == ref.name).values(**values))
    if updated.rowcount == 0:
        connection.execute(DEPLOYMENTS.insert().values(name=ref.name, **values))


def stop_deployment(connection: sa.Connection, name: str) -> None:
    connection.execute(DEPLOYMENTS.update().where(DEPLOYMENTS.c.name == name).values(state="stopped"))


def save_route(connection: sa.Connection, route: Route, *, by: str, now: datetime) -> None:
    """Add a route or replace the one of the same name."""
    values = {
        "upstream": route.upstream,
        "tier": route.tier.value,
        "tasks": ",".join(sorted(route.tasks)),
        "options": route.options,
        "added_by": by,
        "time": format_time(now),
    }
    updated = connection.execute(ROUTES.update().where(ROUTES.c.name == route.name).values(**values))
    if updated.rowcount == 0:
        connection.execute(ROUTES.insert().values(name=route.name, **values))


def remove_route(connection: sa.Connection, name: str) -> None:
    connection.execute(ROUTES.delete().where(ROUTES.c.name == name))


def routes(connection: sa.Connection) -> list[Route]:
    return [
        Route(row.name, row.upstream, Tier(row.tier), frozenset(row.tasks.split(",")), row.options)
        for row in connection.execute(sa.select(ROUTES).order_by(ROUTES.c.name))
    ]


def _deployment(row: Any) -> Deployment:
    return Deployment(
        Ref(row.name, row.version), row.digest, row.floor, row.isolation, row.state, row.deployed_by, row.time
    )
