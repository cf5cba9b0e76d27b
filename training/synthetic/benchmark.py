"""Speed of the generator: plates per CPU second of one core, with warm glyph caches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from training.synthetic.generator import PlateGenerator

WARM_UP_PLATES = 3000


def measure(
    fonts_dir: Path | None, regions: Sequence[str] | None, photography: bool, count: int
) -> float:
    """Plates per second of CPU time; other processes on the machine do not count."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    generator = PlateGenerator(fonts_dir, regions, photography)
    rng = np.random.default_rng(0)
    for _ in range(WARM_UP_PLATES):
        generator.sample(rng)
    started_s = time.process_time()
    for _ in range(count):
        generator.sample(rng)
    elapsed_s = time.process_time() - started_s
    cv2.setNumThreads(threads)
    return count / elapsed_s
