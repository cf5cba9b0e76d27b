"""A TensorRT plan as a runner, on the GPU of this machine. Needs tensorrt and torch with CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from runtimes import Answer, UInt8Array
from tensorrt_network import EngineError, find_tensorrt

from lprnet.engine_record import EngineRecordError, gpu, read_record
from lprnet.model_file import ModelFacts, tensors


class TensorrtRunner:
    """A plan with its record, checked against the model that it was built from.

    Args:
        plan: plan file; its record lies beside it.
        facts: of the FP32 model; the plan's spec must be the same.

    Raises:
        EngineRecordError: when plan, record, model and GPU do not belong together.
        EngineError: without a GPU, or when TensorRT does not load the plan.
    """

    def __init__(self, plan: Path, facts: ModelFacts) -> None:
        self.record = read_record(plan)
        self.spec = facts.spec
        self.label = f"TensorRT {self.record.precision}"
        self._facts = facts
        if self.record.plate_spec_digest != facts.spec.digest:
            raise EngineRecordError(f"{plan.name} was built for another plate spec")
        if self.record.precision != "int8" and self.record.onnx_sha256 != facts.file_digest:
            raise EngineRecordError(f"{plan.name} was built from another ONNX")
        name, _ = gpu()
        if not name or not torch.cuda.is_available():
            raise EngineError(f"{plan.name} needs the GPU {self.record.gpu_name!r} to run")
        trt: Any
        trt, _ = find_tensorrt(self.record.flavour)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise EngineError(f"TensorRT {trt.__version__} does not load {plan.name}")
        self._context = self._engine.create_execution_context()

    def __call__(self, crops: UInt8Array) -> Answer:
        """See `runtimes.Runner`."""
        image, ids, probs = tensors(self.spec, self._facts.io)
        pixels = torch.from_numpy(crops).cuda()
        if self._facts.io == "tao":
            pixels = pixels.float() / 255
        shape = (len(crops), self.spec.time_steps)
        out_ids = torch.empty(shape, dtype=torch.int32, device="cuda")
        out_probs = torch.empty(shape, dtype=torch.float32, device="cuda")
        self._context.set_input_shape(image.name, tuple(pixels.shape))
        for name, tensor in ((image.name, pixels), (ids.name, out_ids), (probs.name, out_probs)):
            self._context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise EngineError(f"TensorRT failed on a batch of {len(crops)}")
        stream.synchronize()
        answer: Answer = out_ids.cpu().numpy(), out_probs.cpu().numpy()
        return answer[0].astype(np.int32, copy=False), answer[1]
