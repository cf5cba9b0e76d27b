"""Charset and plate spec: data in, data out, clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lprnet.charset import (
    DEFAULT_CHARSET,
    TAO_US_CHARSET,
    Charset,
    fold_lookalikes,
    normalise_text,
)
from lprnet.errors import SpecError
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec


def test_default_is_the_reference_order() -> None:
    assert "".join(DEFAULT_CHARSET.characters) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert DEFAULT_SPEC.classes == 37
    assert DEFAULT_SPEC.blank == 36
    assert DEFAULT_SPEC.image_shape == (3, 48, 96)


def test_tao_characters_file(tmp_path: Path) -> None:
    path = tmp_path / "us_lp_characters.txt"
    path.write_text("\n".join(TAO_US_CHARSET.characters) + "\n")
    charset = Charset.from_file(path)
    assert charset == TAO_US_CHARSET
    assert len(charset) == 35
    assert "O" not in charset
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Windows editors save it
    assert Charset.from_file(path) == TAO_US_CHARSET


@pytest.mark.parametrize("bad", [(), ("A", "A"), ("AB",), (" ",), ("",), ("\n",)])
def test_bad_charsets(bad: tuple[str, ...]) -> None:
    with pytest.raises(SpecError):
        Charset(bad)


def test_missing_characters_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.txt"):
        Charset.from_file(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("m-ük 12", "MUK12"),
        ("KA·51 ab", "KA51AB"),
        ("Straße", "STRASSE"),
        ("ČŠŽ", "CSZ"),
        ("Й·ё", "ИЕ"),
        ("12가 3456", "12가3456"),
    ],
)
def test_normalise(written: str, read: str) -> None:
    assert normalise_text(written) == read


def test_characters_that_no_label_holds() -> None:
    assert DEFAULT_CHARSET.never_in_labels() == []
    assert Charset.from_text("가나АБВĐØ").never_in_labels() == []
    assert Charset.from_text("ЙA-Äb1").never_in_labels() == ["Й", "-", "Ä", "b"]


def test_fold() -> None:
    assert fold_lookalikes("OI01AB") == "0101AB"


@pytest.mark.parametrize("blank", [0, 7, 36])
def test_class_ids_skip_the_blank(blank: int) -> None:
    spec = PlateSpec(blank=blank)
    ids = spec.encode("".join(spec.charset.characters))
    assert blank not in ids
    assert sorted([*ids.tolist(), blank]) == list(range(37))
    assert "".join(spec.class_characters[ids]) == "".join(spec.charset.characters)
    assert spec.class_characters[blank] == ""


def test_encode_names_the_offender() -> None:
    with pytest.raises(SpecError, match="outside the charset: - é"):
        DEFAULT_SPEC.encode("A-é1")


def test_min_time_steps() -> None:
    assert DEFAULT_SPEC.min_time_steps("AAB11") == 7


def test_json_round_trip(tmp_path: Path) -> None:
    spec = PlateSpec(charset=TAO_US_CHARSET, blank=3, time_steps=24, rows=1)
    path = tmp_path / "spec.json"
    path.write_text(spec.to_json())
    assert PlateSpec.from_file(path) == spec
    assert PlateSpec.from_file(path).digest == spec.digest
    assert spec.digest != DEFAULT_SPEC.digest


def changed(**values: Any) -> str:
    return json.dumps({**DEFAULT_SPEC.to_dict(), **values})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        ("{}", "missing keys"),
        (changed(extra=1), "unknown keys"),
        (changed(version=2), "version"),
        (changed(blank=37), "no class id"),
        (changed(blank=-1), "negative"),
        (changed(blank=True), "whole number"),
        (changed(time_steps="48"), "whole number"),
        (changed(time_steps=47), "multiple"),
        (changed(rows=0), "at least 1"),
        (changed(characters="ABC"), "list"),
        (changed(characters=["A", 1]), "list"),
        (changed(characters=["A", "A"]), "twice"),
    ],
)
def test_bad_specs(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        PlateSpec.from_json(text)
