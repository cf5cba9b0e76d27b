#!/usr/bin/env bash
# Known vulnerabilities in the packages of requirements.lock, by pip-audit.
#
#   deploy/audit.sh                    # PyPI's data, else OSV's, whichever can be reached
#   deploy/audit.sh --format json      # what follows is pip-audit's
#
# Exits 0 when every package was looked up and none has a known vulnerability.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
PIP_AUDIT=pip-audit==2.10.1
ENVIRONMENT=out/audit/$PIP_AUDIT

# A mirror of the packages alone has no such data: pip-audit would then skip every package and
# call that clean. So first ask for a vulnerability that is known for sure.
service=$("$PYTHON" - <<'PYTHON'
import json
import urllib.request

QUERY = {"version": "2.19.0", "package": {"name": "requests", "ecosystem": "PyPI"}}
SOURCES = {
    "pypi": (urllib.request.Request("https://pypi.org/pypi/requests/2.19.0/json"), "vulnerabilities"),
    "osv": (
        urllib.request.Request("https://api.osv.dev/v1/query", json.dumps(QUERY).encode()),
        "vulns",
    ),
}
for name, (request, key) in SOURCES.items():
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            known = json.load(answer).get(key)
    except (OSError, ValueError):
        continue
    if known:
        print(name)
        break
PYTHON
)
if [ -z "$service" ]; then
    echo "error: not audited: neither pypi.org nor api.osv.dev gives its vulnerability data here;" \
        "run it where one of them can be reached" >&2
    exit 1
fi

if [ ! -x "$ENVIRONMENT/bin/pip-audit" ]; then
    "$PYTHON" -m venv "$ENVIRONMENT"
    "$ENVIRONMENT/bin/python" -m pip install --quiet --disable-pip-version-check "$PIP_AUDIT"
fi
# --strict: a package that cannot be looked up is a failure. The lock is complete and pinned, so
# that nothing needs to be resolved or installed.
exec "$ENVIRONMENT/bin/pip-audit" --strict --disable-pip --no-deps --progress-spinner off \
    --vulnerability-service "$service" --requirement requirements.lock "$@"
