"""Compare engines in this process: crops per second, picture files to text, in one run.

Every reader decodes each JPEG (or PNG), makes its crop, runs its network and decodes its text, on
the same pictures and the same number of threads; readers take turns, and medians count. A turn is
the same number of pictures for every batch size, and long: a call shall find caches and CPUs as
its own reader left them, not as the one before (`--turn 1` measures that; ONNX Runtime's threads
keep a CPU busy for a while after their work). The speed of the first ONNX is also told as a share
of the INT8 peak of this machine, measured in the same turns with large convolutions in OpenVINO.

Examples:
  python build/bench_engines.py data/val/eu --onnx model_int8.onnx model.onnx \\
      --peer cct_xs_v2_global
  python build/bench_engines.py data/val/eu --onnx model_int8.onnx --threads 2 --batch 32
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from runtimes import load_runner
from tqdm import tqdm

from lprnet.ctc import decode
from lprnet.errors import LprnetError
from lprnet.image import decode_image, load_crop
from lprnet.openvino_graph import compile_graph, read_graph
from training.data.records import read_set
from training.evaluation.peers import DEFAULT_PEER_DIR, PeerReader
from training.evaluation.pictures import Picture

Read = Callable[[Sequence[bytes]], Sequence[str]]
"""Picture files -> texts."""

Spread = Callable[[Callable[[bytes], Any], Sequence[bytes]], list[Any]]
"""(function of a file, files) -> its answers, on as many threads as are measured."""

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}

PEAK_CHANNELS, PEAK_SIZE, PEAK_CALLS = 512, 32, 10


def spread_over(threads: int) -> Spread:
    """On one thread a loop, else a pool of them: OpenCV lets go of the interpreter's lock."""
    if threads == 1:
        return lambda function, files: [function(data) for data in files]
    pool = ThreadPoolExecutor(threads, "decode")
    return lambda function, files: list(pool.map(function, files))


def model_reader(path: Path, runtime: str, threads: int, spread: Spread) -> tuple[str, Read]:
    """Name and reader of a signed ONNX. Raises LprnetError when it is refused."""
    runner = load_runner(path, runtime, threads)
    spec = runner.spec

    def read(files: Sequence[bytes]) -> Sequence[str]:
        crops = spread(lambda data: load_crop(data, spec.height_px, spec.width_px), files)
        batch = crops[0][np.newaxis] if len(crops) == 1 else np.stack(crops)
        return decode(*runner(batch), spec).plates

    return f"{path.name}, {runner.label}", read


def peer_reader(name: str, folder: Path, threads: int, spread: Spread) -> tuple[str, Read]:
    """Name and reader of a peer model. Raises LprnetError when it is not there."""
    peer = PeerReader(name, folder, threads)

    def read(files: Sequence[bytes]) -> Sequence[str]:
        return peer.read(spread(lambda data: Picture(decode_image(data), data), files)).plates

    return name, read


def in_turns(
    works: Sequence[tuple[Callable[[], object], int]], rounds: int, clock: Clock
) -> list[npt.NDArray[np.float64]]:
    """Seconds of every call of works that take turns, so that a busy moment hits all of them.

    Args:
        works: each with its calls in a turn.
        rounds: turns of each.
        clock: in seconds.

    Returns:
        [rounds, calls] for each work.
    """
    times = [np.empty((rounds, calls)) for _, calls in works]
    for turn in tqdm(range(rounds), disable=not sys.stderr.isatty(), leave=False):
        for (work, calls), mine in zip(works, times, strict=True):
            for call in range(calls):
                start = clock()
                work()
                mine[turn, call] = clock() - start
    return times


def macs_per_crop(path: Path) -> int:
    """Multiplications of convolutions and matrices in one crop, from the graph's shapes."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    shapes = {
        value.name: [axis.dim_value if axis.dim_value else 1 for axis in dims]
        for value in (*model.graph.value_info, *model.graph.output)
        if (dims := value.type.tensor_type.shape.dim) is not None
    }
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:  # quantized weights pass through a DequantizeLinear
        if node.op_type == "DequantizeLinear" and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(sizes[node.input[1]][1:]))
        elif node.op_type == "Gemm":
            total += int(np.prod(sizes[node.input[1]]))
    return total


def peak_work(threads: int) -> tuple[Callable[[], object], int]:
    """One large INT8 convolution in OpenVINO, and its multiplications: as fast as it gets."""
    shape = [1, PEAK_CHANNELS, PEAK_SIZE, PEAK_SIZE]
    model = _peak_model(shape)
    compiled = compile_graph(read_graph(model.SerializeToString()), threads)
    request: Any = compiled.create_infer_request()
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    repeats = sum(node.op_type == "Conv" for node in model.graph.node)
    return (
        lambda: request.infer([data], share_inputs=True),
        repeats * PEAK_SIZE * PEAK_SIZE * 9 * PEAK_CHANNELS * PEAK_CHANNELS,
    )


def _peak_model(shape: list[int], layers: int = 4) -> onnx.ModelProto:
    """Convolutions of 3 x 3, one behind another, in our INT8 form."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (PEAK_CHANNELS, PEAK_CHANNELS, 3, 3)).astype(np.int8)
    initializers = [
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.full(PEAK_CHANNELS, 1e-4, np.float32), "w_scale"),
        numpy_helper.from_array(np.zeros(PEAK_CHANNELS, np.int8), "w_zero"),
        numpy_helper.from_array(np.asarray(0.02, np.float32), "scale"),
        numpy_helper.from_array(np.asarray(0, np.int8), "zero"),
    ]
    nodes, name = [], "x"
    for i in range(layers):
        nodes += [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", "scale", "zero"], [f"d{i}"]),
            helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], [f"dw{i}"], axis=0),
            helper.make_node("Conv", [f"d{i}", f"dw{i}"], [f"c{i}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"]),
        ]
        name = f"r{i}"
    graph = helper.make_graph(
        nodes,
        "peak",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line."""
    parser.add_argument("set", type=Path, metavar="SET", help="labelled crops, e.g. data/val/eu")
    parser.add_argument("--onnx", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--runtime", choices=("openvino", "onnxruntime"), default="openvino")
    parser.add_argument("--peer", nargs="*", default=[], metavar="NAME", help="ratios are to it")
    parser.add_argument("--peer-dir", type=Path, default=DEFAULT_PEER_DIR, metavar="FOLDER")
    parser.add_argument("--threads", type=int, default=1, help="of each (default %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32], metavar="N")
    parser.add_argument(
        "--clock",
        choices=tuple(CLOCKS),
        default="wall",
        help="cpu: processor time, fair on a busy machine and with one thread only "
        "(default %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=15, help="turns (default %(default)s)")
    parser.add_argument(
        "--turn", type=int, default=320, metavar="N", help="pictures a turn (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if min(args.threads, args.rounds, args.turn, *args.batch) < 1:
        raise LprnetError("--threads, --batch, --rounds and --turn must be at least 1")
    if args.clock == "cpu" and args.threads > 1:
        raise LprnetError("--clock cpu adds the time of all threads: use it with --threads 1")
    cv2.setNumThreads(1)  # pictures are small: threads take whole ones
    files = [record.path.read_bytes() for record in read_set(args.set)]
    spread = spread_over(args.threads)
    readers = [peer_reader(name, args.peer_dir, args.threads, spread) for name in args.peer]
    readers += [model_reader(path, args.runtime, args.threads, spread) for path in args.onnx]
    peak, peak_macs = peak_work(args.threads)
    macs = macs_per_crop(args.onnx[0])
    cpus = len(os.sched_getaffinity(0))
    print(
        f"{args.set.name}: {len(files)} files, {args.threads} of {cpus} CPUs, {args.rounds} turns "
        f"of {args.turn} pictures, {args.clock} time"
    )
    for batch in args.batch:
        calls = max(1, args.turn // batch)
        rows = _rows(readers, peak, files, batch, calls, args.rounds, CLOCKS[args.clock])
        peak_s = rows.pop()[1]
        base = rows[0][1]
        print(f"\nbatch {batch:<36} {'crops/s':>9} {'ms/crop':>9} {'p99':>8}  x {rows[0][0]}")
        for name, median_s, p99_s in rows:
            print(
                f"  {name:<40} {batch / median_s:>9.0f} {1e3 * median_s / batch:>9.3f} "
                f"{1e3 * p99_s / batch:>8.3f}  {base / median_s:.2f}"
            )
        ours = rows[len(args.peer)][1]
        share = macs * batch / ours / (peak_macs / peak_s)
        print(
            f"  {macs / 1e6:.1f} MMAC a crop, INT8 peak {peak_macs / peak_s / 1e9:.0f} GMAC/s: "
            f"files to text at {100 * share:.0f} % of it"
        )
    return 0


def _rows(
    readers: Sequence[tuple[str, Read]],
    peak: Callable[[], object],
    files: Sequence[bytes],
    batch: int,
    calls: int,
    rounds: int,
    clock: Clock,
) -> list[tuple[str, float, float]]:
    """(name, median of the turns, 99th percentile of the calls) in seconds a call, the peak's
    last."""
    place = {name: 0 for name, _ in readers}

    def work(name: str, read: Read) -> Callable[[], object]:
        def call() -> object:
            start = place[name]  # every reader gets the same pictures in the same order
            place[name] = start + batch
            return read([files[(start + i) % len(files)] for i in range(batch)])

        return call

    works = [*((work(name, read), calls) for name, read in readers), (peak, PEAK_CALLS)]
    in_turns(works, 1, clock)  # the first call of each shape plans and allocates
    place.update(dict.fromkeys(place, 0))
    names = [*(name for name, _ in readers), "INT8 peak"]
    return [
        (name, float(np.median(times.mean(axis=1))), float(np.percentile(times, 99)))
        for name, times in zip(names, in_turns(works, rounds, clock), strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run by path; returns the exit code."""
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except LprnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
