"""Peer recognisers, for comparison in the same run. Their models are never shipped.

fast-plate-ocr (MIT): `pip install '.[load]'`, and a folder with NAME.onnx and
NAME_plate_config.yaml for each model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from lprnet.charset import normalise_text
from training.evaluation.pictures import Picture
from training.evaluation.readers import Answers, LocalReader, ReaderError, require

DEFAULT_PEER_DIR = Path(__file__).parents[3] / "shared" / "peers" / "fast-plate-ocr"
_CONFIG_SUFFIX = "_plate_config.yaml"


def known_peers(folder: Path) -> list[str]:
    """Names of the peer models that a folder holds, sorted."""
    return sorted(
        path.stem
        for path in folder.glob("*.onnx")
        if path.with_name(path.stem + _CONFIG_SUFFIX).is_file()
    )


class PeerReader(LocalReader):
    """A fast-plate-ocr model through its own library.

    Confidence: product of the probabilities of all slots, padding included, which is the
    probability that the model gives to its whole answer.

    Args:
        name: one of `known_peers(folder)`.
        folder: where its model and config lie.
        threads: of ONNX Runtime.
    """

    def __init__(self, name: str, folder: Path = DEFAULT_PEER_DIR, threads: int = 1) -> None:
        known = known_peers(folder)
        if name not in known:
            have = f"it holds {', '.join(known)}" if known else "it holds no model with its config"
            raise ReaderError(f"no peer {name!r} in {folder}: {have} (see --peer-dir)")
        recogniser = require("fast_plate_ocr", "load").LicensePlateRecognizer
        options = require("onnxruntime", "load").SessionOptions()
        options.intra_op_num_threads = threads
        self._recogniser = recogniser(
            onnx_model_path=folder / f"{name}.onnx",
            plate_config_path=folder / f"{name}{_CONFIG_SUFFIX}",
            providers=["CPUExecutionProvider"],
            sess_options=options,
        )
        # Some of its exports take one picture at a time.
        self._one_by_one = self._recogniser.model.get_inputs()[0].shape[0] == 1
        self._grey = self._recogniser.config.image_color_mode == "grayscale"
        self.name = name
        self.description = f"fast-plate-ocr, ONNX Runtime FP32, {threads} thread(s)"

    def read(self, pictures: Sequence[Picture]) -> Answers:
        """Read a batch."""
        if not pictures:
            return Answers((), np.zeros(0, np.float32))
        frames = [self._as_expected(p) for p in pictures]
        batches = [[f] for f in frames] if self._one_by_one else [frames]
        found = [f for b in batches for f in self._recogniser.run(b, return_confidence=True)]
        confidences = np.array([np.prod(f.char_probs) for f in found], dtype=np.float32)
        return Answers(
            tuple(normalise_text(f.plate) for f in found), np.clip(confidences, 0.0, 1.0)
        )

    def _as_expected(self, picture: Picture) -> npt.NDArray[np.uint8]:
        if not self._grey:
            return picture.pixels
        return cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
