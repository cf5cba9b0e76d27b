"""`lprnet evaluate` from the command line to its table, JSON and HTML."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from painted_sets import pixels, write_tao

from lprnet.plate_spec import PlateSpec
from lprnet_cli import main
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.data.records import read_set
from training.evaluation.pictures import load_pictures
from training.evaluation.readers import CheckpointReader
from training.network import build_network

from onnx_samples import write_onnx  # isort: skip - painted_sets says where it is


class Page(HTMLParser):
    """What a report holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: dict[str, bool] = {}  # id -> whether an <svg> stands in it
        self.images: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._figure = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag == "figure":
            self._figure = values.get("id") or ""
            if self._figure:
                self.figures[self._figure] = False
        if tag == "svg" and self._figure:
            self.figures[self._figure] = True
        if tag == "img":
            self.images.append(values["src"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("onnx") / "sample.onnx")


@pytest.fixture
def two_sets(tmp_path: Path) -> list[str]:
    right = {f"r{i}": (t, t) for i, t in enumerate(["AB12", "DAUE514", "XY7", "KLM88"])}
    first = write_tao(tmp_path / "first", {**right, "<i>w": ("AB10", "ABI0")})
    second = write_tao(tmp_path / "second", {"a": ("Z9", "Z9"), "b": ("QQ1", "QQ77")})
    (second / "image" / "bad.png").write_bytes(b"nothing")
    (second / "label" / "bad.txt").write_text("BAD1")
    return [str(first), str(second)]


def test_report(
    tmp_path: Path, sample: Path, two_sets: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    json_path, html_path = tmp_path / "out" / "r.json", tmp_path / "out" / "r.html"
    outputs = ["--json", str(json_path), "--html", str(html_path)]
    code = main(["evaluate", *two_sets, "--onnx", str(sample), "--robustness", *outputs])
    assert code == 0

    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if line.startswith("sample ")]
    assert rows[0][:4] == ["sample", "first", "5", "80.0"]
    assert rows[0][5] == "100.0"  # folded: AB10 is ABI0
    assert rows[1][:4] == ["sample", "second", "3", "33.3"]
    assert rows[2][:4] == ["sample", "all", "8", "62.5"]
    assert "second: 1 unreadable, counted as wrong" in printed
    assert "mean of all" in printed

    values = json.loads(json_path.read_text())
    (reader,) = values["readers"]
    assert (reader["all"]["strict"]["right"], reader["all"]["n"]) == (5, 8)
    assert reader["sets"]["first"]["folded"]["right"] == 5
    assert values["unreadable"]["second"][0][0].endswith("bad.png")
    assert {"label": "I", "read": "1", "times": 1} in reader["confusions"]
    assert reader["speed"]["batch1_p50_ms"] > 0
    assert reader["robustness"]["curves"]["darkness"] == [5 / 8, 0, 0, 0, 0, 0]

    page = Page(html_path.read_text(encoding="utf-8"))
    assert page.figures == dict.fromkeys(
        ("accuracy", "reliability", "coverage", "robustness"), True
    )
    assert len(page.images) == 2  # two plates are read wrong and can be shown
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    shown = [cv2.imdecode(np.frombuffer(base64.b64decode(i.split(",")[1]), np.uint8), 1)
             for i in page.images]  # fmt: skip
    wrong = {"AB10", "QQ1"}
    closest = {
        min(wrong, key=lambda t: float(np.abs(s[:, :, ::-1].astype(int) - pixels(t)).mean()))
        for s in shown
    }
    assert closest == wrong
    assert "<i>w.png" in page.text  # a hostile file name stays text
    assert "i" not in page.tags


def test_default_names_of_equal_folders(
    tmp_path: Path, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = [write_tao(tmp_path / part / "eu", {"a": ("A1", "A1")}) for part in ("x", "y")]
    arguments = [*map(str, roots), "--onnx", str(sample), "--onnx", str(sample), "--no-speed"]
    assert main(["evaluate", *arguments, "--brief"]) == 0
    printed = capsys.readouterr().out
    for expected in ("sample    x/eu", "sample    y/eu", "sample-2  x/eu"):
        assert expected in printed


def test_the_shipped_weights_have_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tao(tmp_path / "set", {"a": ("AB12", "AB12")})
    assert main(["evaluate", str(root), "--weights", "shipped", "--no-speed", "--brief"]) == 0
    assert "small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing_folder"], "missing_folder is no folder"),
        (["SET", "--onnx", "missing.onnx"], "no ONNX at missing.onnx"),
        (["SET", "--weights", "missing.pt"], "no checkpoint at missing.pt"),
        (["SET", "--peer", "nobody"], "no peer 'nobody'"),
        (["SET", "--onnx", "ONNX", "--fit-temperature"], "exactly one --weights"),
        (["SET", "--onnx", "ONNX", "--no-speed", "--json", "SET/image/a.png/x"], "cannot write"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path,
    sample: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = write_tao(tmp_path / "set", {"a": ("A1", "A1")})
    filled = [a.replace("SET", str(root)).replace("ONNX", str(sample)) for a in arguments]
    if arguments == ["missing_folder"]:
        filled += ["--onnx", str(sample)]
    assert main(["evaluate", *filled]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_a_set_without_one_readable_picture(
    tmp_path: Path, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tao(tmp_path / "set", {"a": ("A1", "A1")})
    (root / "image" / "a.png").write_bytes(b"")
    assert main(["evaluate", str(root), "--onnx", str(sample)]) == 2
    assert "not one of the 1 pictures" in capsys.readouterr().err


@pytest.mark.parametrize("criterion", [[], ["error"]])
def test_fit_temperature_is_stored_and_used(
    criterion: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    spec = PlateSpec()
    options = {"stem": 8, "middle": 16, "deep": 16}
    network = build_network("small", spec, options).eval()
    weights = tmp_path / "best.pt"
    save_checkpoint(Checkpoint(network, "small", options, spec, metrics={"kept": 1}), weights)

    rng = np.random.default_rng(2)
    roots = []
    for part in ("one", "two"):
        root = write_tao(tmp_path / part, {})
        for index in range(24):
            noise = rng.integers(0, 256, (48, 96, 3), dtype=np.uint8)
            assert cv2.imwrite(str(root / "image" / f"{index}.png"), noise)
            (root / "label" / f"{index}.txt").write_text("X")
        # Label half of them as they are read: right and wrong plates in about equal numbers.
        labelled = load_pictures(part, read_set(root))
        for index, picture in enumerate(labelled.pictures):
            assert picture is not None
            plate = CheckpointReader(weights).read([picture]).plates[0]
            if index % 2:
                (root / "label" / f"{labelled.records[index].path.stem}.txt").write_text(plate)
        roots.append(str(root))

    before = load_checkpoint(weights)
    assert main(["evaluate", *roots, "--weights", str(weights), "--fit-temperature", *criterion,
                 "--brief", "--no-speed", "--html", str(tmp_path / "r.html")]) == 0  # fmt: skip
    after = load_checkpoint(weights)
    assert before.temperature == 1.0
    assert after.temperature != 1.0
    assert after.metrics == {"kept": 1}
    for name, tensor in before.network.state_dict().items():
        assert torch.equal(tensor, after.network.state_dict()[name])
    printed = capsys.readouterr().out
    assert f"temperature {after.temperature:.4f} stored" in printed
    assert "Fitted temperature" in (tmp_path / "r.html").read_text()
