"""LPRNet: what training, engines, decoder and clients share. Needs numpy; image: two decoders."""

from __future__ import annotations

__version__ = "0.1.0"
