"""No program replaces what it works from."""

from __future__ import annotations

from pathlib import Path

import pytest

import lprnet_cli
from lprnet.errors import LprnetError
from lprnet.outputs import refuse_to_overwrite
from training.shipped import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
ONNX = ROOT / "model_repository" / "lprnet" / "1" / "model.onnx"


@pytest.mark.parametrize("kind", ["same", "spelt", "link"])
def test_an_output_that_is_an_input(tmp_path, kind):
    source = tmp_path / "a"
    source.write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(source)
    out = {"same": source, "spelt": tmp_path / "sub" / ".." / "a", "link": tmp_path / "link"}[kind]
    with pytest.raises(LprnetError, match="name another file"):
        refuse_to_overwrite(out, None, source)


def test_other_files_are_fine(tmp_path):
    refuse_to_overwrite(tmp_path / "b", tmp_path / "a", None)
    refuse_to_overwrite(tmp_path / "b")


@pytest.mark.parametrize(
    ("verb", "source", "more"),
    [
        ("quantize", ONNX, ["--data", "nowhere"]),
        ("engine", ONNX, []),
        ("export", SHIPPED, []),
        ("average", SHIPPED, []),
    ],
)
def test_verbs_keep_what_they_read(verb, source, more, tmp_path, capsys):
    """Seen to fail: each replaced the file, an exported FP32 model by its INT8 form for one."""
    copy = tmp_path / source.name
    copy.write_bytes(source.read_bytes())
    assert lprnet_cli.main([verb, str(copy), "--out", str(copy), *more]) == 2
    assert "which it is made of" in capsys.readouterr().err
    assert copy.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ["model.int8", "model.json", "model"])
@pytest.mark.parametrize(
    ("verb", "source", "more"), [("quantize", ONNX, ["--data", "nowhere"]), ("export", SHIPPED, [])]
)
def test_records_of_two_models_do_not_collide(verb, source, more, name, tmp_path, capsys):
    """Seen to fail: INT8 as model.int8 took the record of model.onnx, and model.json its own."""
    out = tmp_path / name
    assert lprnet_cli.main([verb, str(source), "--out", str(out), *more]) == 2
    assert "name a file that ends in .onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_shipped_weights_keep_their_temperature(tmp_path, capsys):
    before = SHIPPED.read_bytes()
    arguments = ["evaluate", str(tmp_path), "--weights", "shipped", "--fit-temperature"]
    assert lprnet_cli.main(arguments) == 2
    assert "would change the shipped weights" in capsys.readouterr().err
    assert SHIPPED.read_bytes() == before


def test_a_picture_is_no_checkpoint(tmp_path, capsys):
    """Seen to fail: PyTorch's advice to load it without its safety."""
    picture = next((ROOT / "samples").rglob("*.jpg"))
    assert lprnet_cli.main(["export", str(picture), "--out", str(tmp_path / "a.onnx")]) == 2
    error = capsys.readouterr().err
    assert error.endswith(f"{picture} is no checkpoint of this program, or damaged\n")


def test_a_repository_is_not_copied_into_itself(capsys):
    out = ROOT / "model_repository" / "mine"
    assert lprnet_cli.main(["repository", "--out", str(out)]) == 2
    assert "name a folder elsewhere" in capsys.readouterr().err
    assert not out.exists()
