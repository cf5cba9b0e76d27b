"""Names for array types; each function's docstring gives shape, dtype and range."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
