"""No library that we load tells anybody that it was loaded."""

from __future__ import annotations

import sys


def forbid_openvino_telemetry() -> None:
    """Call before `import openvino`, which else reports each import to an analytics service.

    OpenVINO does without its telemetry package where that cannot be imported, and None in
    `sys.modules` says just that (Python's import system, section "The module cache").
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
