"""Triton Python backend: `image` -> `char_ids`, `char_probs` on the CPU engine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The package lprnet that was copied here, not another release that this Python may have.
sys.path.insert(0, str(Path(__file__).absolute().parent))

import numpy as np
import triton_python_backend_utils as pb_utils
from lprnet_engine import EngineOptions, choose_runtime, load_engine
from lprnet_model_file import check_model_file, model_path

from lprnet import contract
from lprnet.triton_model import PythonModel, response, spans, values


class TritonPythonModel(PythonModel):
    """One batch inference per `execute` call, whatever requests Triton put into it."""

    name = contract.ENGINE_MODEL

    def load(self, folder: Path, version: str, parameters: Mapping[str, str]) -> None:
        """Load the ONNX that the parameter `model_file` names; refuse one that does not fit."""
        options = EngineOptions(
            runtime=choose_runtime(parameters["runtime"]),
            threads=int(parameters["threads"]),
            hint=parameters["performance_hint"],
            # The server's working folder goes with the server: a relative path starts here.
            cache_dir=parameters["cache_dir"] and str(folder / version / parameters["cache_dir"]),
        )
        path = model_path(folder / version, parameters["model_file"], options.runtime)
        facts = check_model_file(path)
        self._engine = load_engine(path, facts.spec, options)
        pb_utils.Logger.log_info(f"engine: {self._engine.description}, {facts.description}")

    def answer(self, requests: Sequence[Any]) -> list[Any]:
        """Requests of `image` UINT8 [n, 3, 48, 96] -> as many responses, in order."""
        images = values(requests, contract.IMAGE)
        batch = images[0] if len(images) == 1 else np.concatenate(images)
        ids, probs = self._engine.infer(batch)
        if len(images) == 1:
            return [response({contract.CHAR_IDS: ids, contract.CHAR_PROBS: probs})]
        return [
            response({contract.CHAR_IDS: ids[begin:end], contract.CHAR_PROBS: probs[begin:end]})
            for begin, end in spans(images)
        ]
