"""Measure readers on labelled sets: accuracy, confidence, speed, robustness.

Examples:
  lprnet evaluate ../shared/data/val/*
  lprnet evaluate my_plates --weights runs/mine/best.pt --html out/report.html --json out/report.json
  lprnet evaluate my_plates --onnx out/model.onnx --runtime openvino --peer cct_xs_v2_global
  lprnet evaluate my_plates --url 127.0.0.1:8001
  lprnet evaluate ../shared/data/val/* --peer cct_xs_v2_global --robustness --html out/robust.html
  lprnet evaluate ../shared/data/val/* --weights runs/mine/best.pt --fit-temperature

Every reader that is named is measured in the same run; without any, the shipped ONNX is. A set is
a folder in TAO, manifest, nomeroff or TEXT.jpg layout. The HTML embeds pictures of the plates that
were read wrong: keep it as private as the sets.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from lprnet.errors import LprnetError
from training.data.records import read_set
from training.evaluation import tables
from training.evaluation.measure import measure, measure_speed
from training.evaluation.peers import DEFAULT_PEER_DIR, PeerReader
from training.evaluation.pictures import LabelledSet, load_pictures
from training.evaluation.readers import (
    RUNTIMES,
    SHIPPED_ONNX,
    CheckpointReader,
    OnnxReader,
    Reader,
    ServerReader,
    require,
)
from training.evaluation.result import Evaluation, write_json
from training.evaluation.robustness import measure_robustness
from training.evaluation.temperature import fit_on_sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `lprnet evaluate`."""
    add = parser.add_argument
    add("sets", nargs="+", type=Path, metavar="SET", help="folders of labelled crops")
    many = {"action": "append", "default": []}
    add("--weights", type=Path, metavar="CKPT", help="a training checkpoint", **many)  # type: ignore[arg-type]
    add_reader_arguments(parser)
    add("--url", metavar="HOST:PORT", help="a running server (gRPC port)", **many)  # type: ignore[arg-type]
    add("--peer", metavar="NAME", help="a fast-plate-ocr model", **many)  # type: ignore[arg-type]
