"""Synthetic licence plates, described by data: one file per region under `regions/`."""

from training.synthetic.generator import PlateGenerator
from training.synthetic.plate import SyntheticPlate

__all__ = ["PlateGenerator", "SyntheticPlate"]
