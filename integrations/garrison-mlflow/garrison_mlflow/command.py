"""The `garrison` command as this plug-in uses it: argument lists, JSON answers, its own words when it refuses.

GARRISON_COMMAND names the program (default: `garrison` on the PATH), GARRISON_DATA its data directory. The
program may live in an environment of its own; nothing of it is imported here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE

SECONDS = 3600  # a pull of many gigabytes
MAX_ANSWER = 64 << 20
_URI = re.compile(r"garrison://([a-z0-9][a-z0-9._-]{0,62})/([0-9]{1,9})(?:/(.*))?\Z")


def parse(uri: str) -> tuple[str, str]:
    """`garrison://NAME/VERSION[/PATH]` as (NAME@VERSION, PATH)."""
    match = _URI.match(uri)
    if match is None:
        raise refused(f"{uri!r} is not garrison://NAME/VERSION")
    return f"{match[1]}@{match[2]}", match[3] or ""


def ask(*words: str) -> Any:
    """Run one command. A refusal becomes PERMISSION_DENIED, everything else that is no answer UNAVAILABLE."""
    program = os.environ.get("GARRISON_COMMAND", "garrison")
    try:
        done = subprocess.run(
            [program, "--json", *words],
            capture_output=True,
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        answer = json.loads(done.stdout[:MAX_ANSWER])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise MlflowException(
            f"Garrison could not be asked ({type(error).__name__}): set GARRISON_COMMAND and GARRISON_DATA",
            error_code=TEMPORARILY_UNAVAILABLE,
        ) from error
    if done.returncode == 0:
        return answer
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        text = f"Garrison {error.get('code')}: {error.get('message')}. Next: {error.get('next')}"
        code = PERMISSION_DENIED if done.returncode in (1, 2) else TEMPORARILY_UNAVAILABLE
        raise MlflowException(text, error_code=code)
    return answer  # an answer with a status of its own, such as that of drift


def check_verified(ref: str) -> dict[str, Any]:
    """The version is in Garrison's registry and its stored files are what was scanned and signed."""
    shown = ask("model", "show", ref)
    ask("model", "verify", ref)
    return dict(shown)


def check_approved(ref: str) -> dict[str, Any]:
    shown = check_verified(ref)
    if shown.get("state") != "approved":
        raise refused(
            f"{ref} is {shown.get('state')}, not approved. Next: garrison --as SOMEONE approve {ref}"
        )
    return shown


def refused(text: str) -> MlflowException:
    return MlflowException(f"Garrison: {text}", error_code=PERMISSION_DENIED)
