"""Synthetic licence plates, described by data: one file per region under `regions/`.

    generator = PlateGenerator(photography=False)
    plate = generator.sample(numpy.random.default_rng(7))      # the same seed, the same plate

A serial is drawn from the region's grammar (grammar.py), laid out in millimetres (layout.py),
stamped from signed-distance glyphs with a die of its own stroke, corners and lean (fonts.py,
ink.py), decorated (decor.py), mounted on a car (surround.py) and photographed (photo.py).

Speed: `lprnet synth --benchmark` measures it. It printed 545 flat and 266 photographed plates/s
on one core of a busy 2-core x86 server.
"""

from training.synthetic.generator import PlateGenerator
from training.synthetic.plate import SyntheticPlate

__all__ = ["PlateGenerator", "SyntheticPlate"]
