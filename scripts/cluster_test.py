"""For those who have a cluster: install, try the bypasses through the real API server, connect from where one may not.

    python scripts/cluster_test.py --image registry.example/garrison@sha256:... --pod pod.json

It uses `kubectl` with the current context, `helm`, and `garrison` with a data directory in which the launcher is
pinned. It creates and deletes objects in garrison-system and models-internal, and prints one line a check.
Nothing of it runs in the test suite.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
sys.path.insert(0, str(ROOT))


def ran(*words: str, given: str | None = None) -> tuple[int, str]:
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=SECONDS)
    return done.returncode, done.stdout + done.stderr


def said(name: str, is_right: bool, detail: str = "") -> bool:
    print(f"{'ok  ' if is_right else 'FAIL'}  {name}{'' if is_right else f': {detail[:300]}'}", flush=True)
    return is_right


def install(image: str) -> list[bool]:
    repository, _, digest = image.partition("@")
    values = ["--set", f"image.repository={repository},image.digest={digest}"]
    chart = str(ROOT / "deploy" / "helm" / "garrison")
    found = [
        said(
            "helm upgrade --install", *_good(ran("helm", "upgrade", "--install", "garrison", chart, *values))
        )
    ]
    wait = ["kubectl", "-n", "garrison-system", "rollout", "status", "statefulset/garrison", "--timeout=240s"]
    found.append(said("the server is ready", *_good(ran(*wait))))
    for name, words in (("namespaces", ["render"]), ("admission", ["policy"])):
        status, text = ran("garrison", "k8s", *words)
        applied = ran("kubectl", "apply", "-f", "-", given=text) if status == 0 else (status, text)
        found.append(said(f"{name} are applied", *_good(applied)))
    return found


def bypasses(good: dict[str, object]) -> list[bool]:
    """The examples of the test suite that are one object to be created."""
    from tests.runtime.cluster import BYPASSES  # needs the checkout beside this script

    status, text = ran("kubectl", "apply", "--dry-run=server", "-f", "-", given=json.dumps(good))
    found = [said("the pod as it was rendered is let in", status == 0, text)]
    for bypass in BYPASSES:
        request = bypass.made(good)["request"] or {}
        document = request.get("object")
        if (
            request.get("operation") != "CREATE"
            or request.get("subResource")
            or not isinstance(document, dict)
        ):
            continue
        status, text = ran("kubectl", "create", "--dry-run=server", "-f", "-", given=json.dumps(document))
        found.append(said(bypass.name, status != 0, "it was let in"))
    return found


def from_a_denied_pod(image: str) -> list[bool]:
    """A pod in an exempt namespace without the gateway's labels may not reach a model's port."""
    target = "https://garrison.garrison-system.svc:8443/livez"
    words = ["kubectl", "-n", "kube-public", "run", "garrison-denied", "--rm", "-i", "--restart=Never"]
    program = f"import urllib.request as u; u.urlopen('{target}', timeout=10)"
    status, text = ran(*words, f"--image={image}", "--command", "--", "python3", "-c", program)
    return [
        said("a connection from a pod without the label is cut", status != 0 and "timed out" in text, text)
    ]


def _good(result: tuple[int, str]) -> tuple[bool, str]:
    return result[0] == 0, result[1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", required=True, metavar="REPOSITORY@sha256:…", help="Garrison's image")
    parser.add_argument("--pod", required=True, type=Path, metavar="FILE", help="a rendered pod, as JSON")
    args = parser.parse_args()
    status, text = ran("kubectl", "version")
    if status != 0:
        print(f"no cluster answers: {text.strip()[:200]}", file=sys.stderr)
        return 3
    print(text.strip())
    found = [
        *install(args.image),
        *bypasses(json.loads(args.pod.read_text())),
        *from_a_denied_pod(args.image),
    ]
    print(f"{sum(found)} of {len(found)} as they should be")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
