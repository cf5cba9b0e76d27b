"""Triton Python backend: `image` -> `char_ids`, `char_probs` on the CPU engine."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from lprnet_engine import EngineOptions, choose_runtime, load_engine
from lprnet_model_file import check_model_file, model_path

from lprnet import contract
from lprnet.errors import LprnetError


class TritonPythonModel:
    """One batch inference per `execute` call, whatever requests Triton put into it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the ONNX that the parameter `model_file` names; refuse one that does not fit."""
        parameters = {
            key: value["string_value"]
            for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        folder = Path(args["model_repository"]) / args["model_version"]
        try:
            options = EngineOptions(
                runtime=choose_runtime(parameters["runtime"]),
                threads=int(parameters["threads"]),
                hint=parameters["performance_hint"],
                cache_dir=parameters["cache_dir"],
            )
            path = model_path(folder, parameters["model_file"], options.runtime)
            facts = check_model_file(path)
            self._engine = load_engine(path, facts.spec, options)
        except LprnetError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        pb_utils.Logger.log_info(f"engine: {self._engine.description}, {facts.description}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Requests of `image` UINT8 [n, 3, 48, 96] -> as many responses, in order.

        Whatever goes wrong, clients get one clear sentence and the server's log the traceback.
        """
        try:
            return self._execute(requests)
        except Exception:  # the runtimes' errors have no common base
            pb_utils.Logger.log_error(traceback.format_exc())
            message = f"{contract.ENGINE_MODEL} failed; the reason is in the server's log"
            error = pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=error) for _ in requests]

    def _execute(self, requests: list[Any]) -> list[Any]:
        images = [
            pb_utils.get_input_tensor_by_name(request, contract.IMAGE).as_numpy()
            for request in requests
        ]
        batch = images[0] if len(images) == 1 else np.concatenate(images)
        ids, probs = self._engine.infer(batch)
        ends = np.cumsum([len(image) for image in images])
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(contract.CHAR_IDS, ids[end - len(image) : end]),
                    pb_utils.Tensor(contract.CHAR_PROBS, probs[end - len(image) : end]),
                ]
            )
            for image, end in zip(images, ends, strict=True)
        ]
