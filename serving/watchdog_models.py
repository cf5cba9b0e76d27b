"""Asking a server's models one by one, and loading one anew without a gap.

Triton calls a load of a loaded model done without doing anything. With a configuration that
differs it starts new processes, and only when they are up they take the place of the old: until
then requests of a dead one are answered INTERNAL "Stub process ... is not healthy". An unload
would answer NOT_FOUND meanwhile, and takes both ensembles along.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from lprnet import contract
from serving.errors import ServingError
from serving.preflight import PYTHON_MODELS
from serving.probe import Probe
from serving.server import TritonServer

GENERATION: Final = "generation"
"""Parameter that makes the configuration another one; no model reads it."""


def load_anew(server: TritonServer, model: str, timeout_s: float) -> None:
    """Replace the processes of a Python model.

    Raises:
        ServingError: when the server does not, or not in time.
    """
    try:
        with server.connect() as client:
            try:
                held = client.get_model_config(model, as_json=True, client_timeout=timeout_s)
            except InferenceServerException:  # somebody unloaded it
                client.load_model(model, headers=server.key_headers, client_timeout=timeout_s)
                return
            config = held["config"]
            parameters = config.setdefault("parameters", {})
            parameters[GENERATION] = {"string_value": str(time.time_ns())}
            client.load_model(
                model,
                headers=server.key_headers,
                config=json.dumps(config),
                client_timeout=timeout_s,
            )
    except InferenceServerException as error:
        raise ServingError(f"{model} does not load: {error.message()}") from error


def instance_counts(server: TritonServer, timeout_s: float) -> dict[str, int]:
    """How many processes each Python model of a server has when it is whole.

    Raises:
        ServingError: when the server does not answer.
    """
    counts = {}
    try:
        with server.connect() as client:
            for model in PYTHON_MODELS:
                if not client.is_model_ready(model, client_timeout=timeout_s):
                    continue  # unloaded, or being loaded by somebody
                config = client.get_model_config(model, client_timeout=timeout_s).config
                if config.backend == "python":
                    counts[model] = sum(group.count for group in config.instance_group)
    except InferenceServerException as error:
        raise ServingError(f"the server does not answer: {error.message()}") from error
    return counts


def silent_models(server: TritonServer, models: list[str], timeout_s: float) -> list[str]:
    """Those of the Python models that neither answer nor have answered anybody meanwhile.

    Raises:
        ServingError: when the server itself does not answer.
    """
    inputs = direct_inputs(server.probe)
    with server.connect() as client:
        before = _answers(client, models, timeout_s)
        calls = {}
        for model in models:
            tensors = []
            for name, array in inputs[model].items():
                tensor = grpcclient.InferInput(
                    name, list(array.shape), np_to_triton_dtype(array.dtype)
                )
                tensor.set_data_from_numpy(array)
                tensors.append(tensor)
            answers: list[str | None] = []
            calls[model] = answers
            client.async_infer(model, tensors, _keep(answers), client_timeout=timeout_s)
        deadline = time.monotonic() + timeout_s + 1.0
        while time.monotonic() < deadline and not all(calls.values()):
            time.sleep(0.02)
        after = _answers(client, models, timeout_s)
    return [
        model
        for model in models
        if before[model] == after[model]
        and (not calls[model] or calls[model][0] == "StatusCode.DEADLINE_EXCEEDED")
    ]


def direct_inputs(probe: Probe) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """A valid request for each Python model, past the ensembles."""
    steps = probe.time_steps
    return {
        contract.IMAGE_DECODER_MODEL: {
            contract.ENCODED: np.array([[probe.encoded]], dtype=np.object_)
        },
        contract.ENGINE_MODEL: {contract.IMAGE: probe.crop[np.newaxis]},
        contract.DECODER_MODEL: {
            contract.CHAR_IDS: np.zeros((1, steps), np.int32),
            contract.CHAR_PROBS: np.ones((1, steps), np.float32),
        },
    }


def _keep(answers: list[str | None]) -> Any:
    def done(result: object, error: InferenceServerException | None) -> None:
        answers.append("" if error is None else error.status())

    return done


def _answers(
    client: grpcclient.InferenceServerClient, models: list[str], timeout_s: float
) -> dict[str, int]:
    """How many requests each model has answered since it was loaded."""
    counts = {}
    try:
        for model in models:
            statistics = client.get_inference_statistics(model, client_timeout=timeout_s)
            counts[model] = sum(entry.execution_count for entry in statistics.model_stats)
    except InferenceServerException as error:
        raise ServingError(f"the server does not answer: {error.message()}") from error
    return counts
