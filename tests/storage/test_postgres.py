"""PostgreSQL as Garrison uses it: whom it belongs to, who writes, how it is reached, and what its failures are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.app.household import opened
from tests.fakes.postgres import PASSWORD, USER, Cluster

from garrison.app.settings import Settings
from garrison.core.errors import Refused, Undecided, Usage
from garrison.storage.database import begin, open_kept
from garrison.storage.database_record import read_record, write_record
from garrison.storage.postgres_address import parse
from garrison.storage.sql import Database

pytestmark = pytest.mark.xdist_group("postgres")


def owners(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM owners")).scalar_one())


def add(database: Database, model: str = "m") -> None:
    with database.write() as connection:
        connection.execute(sa.text("INSERT INTO owners VALUES (:model, 'o', 'b', 't')"), {"model": model})


def add_twice(database: Database, second: str = "second", between: Callable[[], None] = lambda: None) -> None:
    """In one transaction."""
    with database.write() as connection:
        connection.execute(sa.text("INSERT INTO owners VALUES ('first', 'o', 'b', 't')"))
        between()
        connection.execute(sa.text("INSERT INTO owners VALUES (:model, 'o', 'b', 't')"), {"model": second})


def end_connections(postgres: Cluster, name: str) -> None:
    """As a restart of the server does."""
    postgres.sql(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    )


def test_no_role_of_the_server_changes_or_removes_a_record_of_the_ledger(
    database: Database, postgres: Cluster, name: str
) -> None:
    with database.write() as connection:
        connection.execute(
            sa.text("INSERT INTO ledger_event VALUES (1, 't', 'a', 'a', 'r', 'o', 'c', 'd', 't', '', '')")
        )
    for statement in (
        "UPDATE ledger_event SET code = 'x'",
        "DELETE FROM ledger_event",
        "TRUNCATE ledger_event",
    ):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"), database.write() as connection:
            connection.execute(sa.text(statement))
    assert postgres.sql("SELECT code FROM ledger_event", name) == [("c",)]


def test_connections_that_a_restart_ended_are_made_anew_and_a_transaction_that_was_cut_is_undone(
    database: Database, postgres: Cluster, name: str
) -> None:
    add(database)
    end_connections(postgres, name)
    assert owners(database) == 1
    add(database, "n")
    with pytest.raises(Undecided, match="DB-UNAVAILABLE") as cut:
        add_twice(database, between=lambda: end_connections(postgres, name))
    assert "garrison goes on by itself" in cut.value.fix
    assert owners(database) == 2


def test_a_database_belongs_to_one_data_directory(postgres: Cluster, name: str, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for place in (mine, other):
        place.mkdir()
    address = postgres.address(name)
    begin(mine, address).close()
    with pytest.raises(Refused, match=r"DB-OTHER.*another data directory"):
        begin(other, address)
    assert read_record(other) is None
    begin(mine).close()
    begin(mine, address.replace(USER, "postgres", 1)).close()  # another role, the same database
    assert read_record(mine) == replace(read_record(mine) or pytest.fail("gone"), is_begun=True)
    with pytest.raises(Refused, match=r"DB-OTHER.*holds nothing"):
        begin(mine, postgres.address())
    begin(mine).close()
    foreign = postgres.make()
    postgres.sql("CREATE TABLE users (name text)", foreign, USER)
    with pytest.raises(Refused, match=r"DB-OTHER.*not Garrison's"):
        begin(other, postgres.address(foreign))
    (other / "garrison.db").touch()
    with pytest.raises(Refused, match="DB-CHANGED"):
        begin(other, postgres.address())
    (mine / "database.json").write_text("{}")
    with pytest.raises(Undecided, match="DB-RECORD"):
        open_kept(mine)


@pytest.mark.parametrize("had", ["nothing", "tables", "the identity"])
def test_a_first_start_that_was_killed_anywhere_is_gone_on_with(
    postgres: Cluster, name: str, tmp_path: Path, had: str
) -> None:
    address = postgres.address(name)
    begin(tmp_path, address).close()
    record = read_record(tmp_path)
    assert record is not None
    write_record(tmp_path, replace(record, is_begun=False))
    if had != "the identity":
        postgres.sql("DELETE FROM installation", name)
    if had == "nothing":
        postgres.sql("DROP SCHEMA public CASCADE", name)
        postgres.sql(f"CREATE SCHEMA public AUTHORIZATION {USER}", name)
    begin(tmp_path).close()
    assert read_record(tmp_path) == record
    assert postgres.sql("SELECT id FROM installation", name) == [(record.id,)]


def test_no_variable_of_postgresql_leads_elsewhere(
    postgres: Cluster, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "HOST": "127.0.0.9",
        "HOSTADDR": "127.0.0.1",
        "PORT": "1",
        "USER": "nobody",
        "DATABASE": "postgres",
    }
    for variable, value in {**said, "SSLMODE": "require", "OPTIONS": "-c lock_timeout=1"}.items():
        monkeypatch.setenv(f"PG{variable}", value)
    with closing(begin(tmp_path, postgres.address(name))) as database, database.read() as connection:
        asked = "SELECT current_user, current_database(), inet_client_addr(), current_setting('lock_timeout')"
        assert tuple(connection.execute(sa.text(asked)).one()) == (USER, name, None, "5s")


def test_a_text_with_nul_is_refused_and_nothing_else_of_its_transaction_is_kept(database: Database) -> None:
    with pytest.raises(Usage, match="DB-TEXT"):
        add_twice(database, "a\0b")
    assert owners(database) == 0


def test_what_is_backed_up_as_the_page_says_is_restored_and_what_is_not_is_found(
    postgres: Cluster, name: str, tmp_path: Path
) -> None:
    """The data directory first and the dump after it; a dump that is older than the directory is refused."""
    data, copy, later = tmp_path / "data", tmp_path / "copy", tmp_path / "later"
    with opened(data, Settings(data=data, database=postgres.address(name))) as home:
        home.ask("user.add", name="dana", roles=["approver"])
        shutil.copytree(data, copy)
        home.ask("user.add", name="alex", roles=["approver"])
    postgres.dump(name)
    begin(data).close()
    with opened(data) as home:
        home.ask("user.add", name="erin", roles=["approver"])
    shutil.copytree(data, later)
    for place, restored in ((copy, postgres.make()), (later, postgres.make())):
        postgres.restore(restored)
        chosen = Settings(data=place, database=postgres.address(restored))
        if place is copy:
            with opened(place, chosen) as home:
                assert {one["name"] for one in home.ask("user.list")["users"]} == {"root", "dana", "alex"}
        else:
            with pytest.raises(Refused, match="AUD-TRUNCATED"), opened(place, chosen):
                pass


def test_the_server_runs_as_a_role_that_can_only_add_to_the_ledger(
    postgres: Cluster, name: str, tmp_path: Path
) -> None:
    """The grants are those of the documentation, taken from its page."""
    begin(tmp_path, postgres.address(name)).close()
    app = f"{name}_app"
    postgres.sql(f"CREATE ROLE {app} LOGIN")
    page = (Path(__file__).parents[2] / "docs" / "postgresql.md").read_text()
    grants = page.split("```sql\n")[1].split("```")[0]
    for statement in (
        grants.replace("garrison_app", app).replace("DATABASE garrison ", f"DATABASE {name} ").split(";")
    ):
        if statement.strip():
            postgres.sql(statement, name)
    with closing(begin(tmp_path, postgres.address(name, app))) as limited:
        add(limited)
        for statement in (
            "DELETE FROM ledger_event",
            "DROP TRIGGER ledger_event_append_only ON ledger_event",
        ):
            with (
                pytest.raises(Undecided, match=r"DB-UNAVAILABLE.*lets this user do less"),
                limited.write() as used,
            ):
                used.execute(sa.text(statement))
        assert owners(limited) == 1


def test_to_a_host_only_verified_tls_is_spoken_and_the_password_stays_in_its_file(
    postgres: Cluster, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "pass"
    secret.write_text(f"localhost:*:{name}:{USER}:{PASSWORD}\n")
    secret.chmod(0o600)
    data = tmp_path / "data"
    data.mkdir()
    address = postgres.tls_address(name)
    with closing(begin(data, address, str(secret))) as database:
        with database.read() as connection:
            found = connection.execute(
                sa.text("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            ).one()
        assert tuple(found) == (True, "TLSv1.3")
        assert (
            PASSWORD
            not in repr(database.engine) + repr(database.engine.url) + (data / "database.json").read_text()
        )
    wrong = tmp_path / "wrong"
    wrong.write_text(f"*:*:*:*:{PASSWORD}x\n")
    wrong.chmod(0o600)
    with pytest.raises(Undecided, match=r"DB-UNAVAILABLE.*password authentication failed") as told:
        begin(data, passfile=str(wrong))
    assert PASSWORD not in str(told.value.as_json())
    stranger = postgres.root / "stranger.pem"
    with pytest.raises(Undecided, match=r"DB-UNAVAILABLE.*certificate verify failed"):
        begin(data, address.replace(str(postgres.root / "ca.pem"), str(stranger)), str(secret))
    with pytest.raises(Undecided, match=r"DB-UNAVAILABLE.*does not match host name"):
        begin(data, address.replace("localhost", "127.0.0.1"), str(secret))
    secret.chmod(0o640)
    with pytest.raises(Refused, match="DB-PASSFILE"):
        begin(data, address, str(secret))
    with pytest.raises(Undecided, match="DB-PASSFILE"):
        begin(data, address, str(tmp_path / "none"))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with pytest.raises(Refused, match=r"DB-PASSFILE.*PGPASSWORD"):
        begin(data)


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("mysql://u@h/n", "DB-ADDRESS"),
        (f"postgresql://u:{PASSWORD}@h/n", "DB-ADDRESS"),
        (f"postgresql://u@h/n?password={PASSWORD}", "DB-ADDRESS"),
        ("postgresql://u@h/n?sslmode=require", "DB-TLS"),
        ("postgresql://u@127.0.0.1/n?sslmode=disable", "DB-TLS"),
        ("postgresql://u@h/n?sslmode=verify-ca", "DB-TLS"),
        ("postgresql://u@h,i/n", "DB-ADDRESS"),
        ("postgresql://u@/n?host=run/postgresql", "DB-ADDRESS"),
        ("postgresql://u@/n", "DB-ADDRESS"),
        ("postgresql://h/n", "DB-ADDRESS"),
        ("postgresql://u@h/", "DB-ADDRESS"),
        ("postgresql://u@h/n?sslrootcert=ca.pem", "DB-ADDRESS"),
        ("postgresql://u@h/n?options=-c%20fsync=off", "DB-ADDRESS"),
        ("postgresql://u@h/n%20host=evil", "DB-ADDRESS"),
        ("postgresql://u@h:99999/n", "DB-ADDRESS"),
        ("postgresql://u@/n?host=/run/postgresql&sslmode=disable", "DB-ADDRESS"),
        ("postgresql://u@h/n\nx", "DB-ADDRESS"),
        ("postgresql://u@h/" + "n" * 3000, "DB-ADDRESS"),
    ],
    ids=range(18),
)
def test_an_address_that_says_too_much_or_too_little_is_refused(address: str, code: str) -> None:
    with pytest.raises((Usage, Refused), match=code) as refused:
        parse(address)
    assert PASSWORD not in json.dumps(refused.value.as_json())


def test_a_server_that_would_lose_records_is_refused(postgres: Cluster, name: str, tmp_path: Path) -> None:
    latin = f"{name}_latin"
    postgres.sql(f"CREATE DATABASE {latin} OWNER {USER} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with pytest.raises(Refused, match=r"DB-SERVER.*encoding is SQL_ASCII"):
        begin(tmp_path, postgres.address(latin))
    refused = pytest.raises(Refused, match=r"DB-SERVER.*full_page_writes is off")
    with postgres.setting("full_page_writes", "off"), refused:
        begin(tmp_path, postgres.address(name))
    postgres.sql(f"ALTER ROLE {USER} IN DATABASE {name} SET synchronous_commit = off")
    with closing(begin(tmp_path, postgres.address(name))) as taken, taken.write() as connection:
        assert connection.execute(sa.text("SHOW synchronous_commit")).scalar() == "on"
