#!/usr/bin/env bash
# Names the Debian/Ubuntu packages that this machine lacks, and installs them when run as root.
#
#   scripts/debian_packages.sh            what serving needs
#   scripts/debian_packages.sh load      what the load tests need besides
#   PYTHON=python3.12 scripts/debian_packages.sh
#
# Exit code: 0 nothing is missing any more, 1 something is and only an administrator can add it.
set -euo pipefail

python="${PYTHON:-python3}"
wanted=()

# A shared library that the loader finds needs no package.
need_library() { # library package
    if ! ldconfig -p | grep -q "^[[:space:]]*$1 "; then wanted+=("$2"); fi
}

if ! command -v "$python" >/dev/null; then
    wanted+=(python3 python3-venv)
else
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    # The environment is made with venv, which Debian packages apart.
    "$python" -c 'import ensurepip, venv' 2>/dev/null || wanted+=("python$version-venv")
    # Triton's Python stub is linked with libpython; from 3.13 on it brings its own.
    own="$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR") or "")')"
    if [ ! -e "$own/libpython$version.so.1.0" ] && [ "${version#3.}" -lt 13 ]; then
        need_library "libpython$version.so.1.0" "libpython$version"
    fi
fi
if [ "${1:-}" = load ]; then
    need_library libb64.so.0d libb64-0d # perf_analyzer
fi

if [ "${#wanted[@]}" -eq 0 ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${wanted[*]}" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}"
    exit 0
fi
echo "missing system packages: ${wanted[*]}" >&2
if command -v apt-get >/dev/null; then
    echo "ask an administrator to run: apt-get install ${wanted[*]}" >&2
else
    echo "these are Debian's names; install their counterparts with this system's tool" >&2
fi
echo "or use a Python that brings them along (uv python install, conda)" >&2
exit 1
