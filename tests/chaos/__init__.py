"""Faults injected into a real, watched server under load: `python -m tests.chaos --help`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # onnx_samples
