"""Configuration, schedules, losses, augmentation, sampling: small parts, exact answers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lprnet.charset import DEFAULT_CHARSET, TAO_US_CHARSET, Charset
from lprnet.plate_spec import DEFAULT_SPEC, PlateSpec
from training.augment import (
    DEFAULT_AUGMENTATION,
    NO_AUGMENTATION,
    corners,
    cut_out,
    photograph,
    view_transform,
)
from training.config import _RANGES, CONFIGS, ConfigError, DataSection, OptimSection, TrainConfig
from training.data.batches import outer_points, sampling_weights
from training.data.pool import SyntheticPool, generator_revision
from training.data.records import Record
from training.losses import FRAME_IGNORED, ctc_loss, frame_loss, frame_targets
from training.schedule import frame_loss_weight, learning_rate
from training.synthetic.spec import RegionError


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_config_loads(path: Path) -> None:
    config = TrainConfig.load(path.stem, train=["some/set"])
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert config.spec().time_steps in (24, 48)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optim.stepps=1"], "unknown key.*stepps.*optim"),
        (["optim.steps='many'"], "optim.steps must be int"),
        (["optim.steps=1.5"], "optim.steps must be int"),
        (["optim.compile=1"], "optim.compile must be bool"),
        (["optim.steps=true"], "optim.steps must be int"),
        (["optim.steps=0"], "at least 1"),
        (["data.real_share=1.5"], "within 0..1"),
        (["optim.amp=fp8"], "auto, bf16 or off"),
        (["steps"], "section.key=value"),
        (["data.real_share=0.5"], "data.train is empty"),
        (["log.evaluate_every=0"], "log.evaluate_every must be at least 1, not 0"),
        (["log.checkpoint_every=0"], "at least 1"),
        (["data.synthetic_refresh_steps=0"], "at least 1"),
        (["data.synthetic_plates=0"], "at least 1"),
        (["data.synthetic_generations=0"], "at least 1"),
        (["optim.workers=-1"], "optim.workers must be within 0..1024, not -1"),
        (["optim.threads=-1"], "optim.threads must be within"),
        (["seed=-1"], "seed must be within 0"),
        (["optim.learning_rate=nan"], "learning_rate must be at least 0, not nan"),
        (["optim.learning_rate=inf"], "learning_rate must be at least 0, not inf"),
        (["augment.rotation_deg=-1"], "augment.rotation_deg must be within 0..45"),
        (["augment.margin_tight=0.5"], "margin_tight must not be above"),
        (["seed.x=1"], "seed is no section, it is set to 1"),
        (["data=5", "data.balance=1"], "data is no section"),
        (["data.train=[1]"], "data.train must be a list of str.*and 1 is no str"),
        (["data.train=some/set"], "data.train must be a list of str"),
        (
            ["network.characters=123456"],
            """must be str, not 123456.*--set 'network.characters="TEXT"'""",
        ),
    ],
)
def test_bad_overrides(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TrainConfig.load("debug", overrides)


def test_every_number_has_bounds() -> None:
    numbers = {
        f"{section.name}.{key}" if isinstance(value, dict) else section.name
        for section in dataclasses.fields(TrainConfig)
        for value in [TrainConfig.load("debug").to_dict()[section.name]]
        for key, entry in (value.items() if isinstance(value, dict) else [("", value)])
        if type(entry) in (int, float)
    }
    assert numbers == set(_RANGES)


def test_sets_beside_a_section_that_is_none() -> None:
    with pytest.raises(ConfigError, match="--train: data is no section"):
        TrainConfig.load("debug", ["data=5"], train=["some/set"])


def test_config_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"seed = 1 # \xff")
    with pytest.raises(ConfigError, match=r"c\.toml is not UTF-8 text"):
        TrainConfig.load(str(path))
    path.write_bytes(b"\xef\xbb\xbfseed = 3\n[data]\nreal_share = 0.0")  # a Windows editor's mark
    assert TrainConfig.load(str(path)).seed == 3


def test_unknown_config_names_the_known() -> None:
    with pytest.raises(ConfigError, match="debug"):
        TrainConfig.load("nosuch")


def test_characters_that_cannot_be_learnt_are_refused() -> None:
    """Seen to fail: they took part in training and could never be read."""
    korean = TrainConfig.load("debug", ["network.characters='0123456789가나'"])
    assert len(korean.spec().charset) == 12
    with pytest.raises(ConfigError, match=r"no label holds Й - Ä b, since .*: leave them out"):
        TrainConfig.load("debug", ["network.characters='01AЙ-Äb'"]).spec()


def test_overrides_are_typed() -> None:
    config = TrainConfig.load("debug", ["optim.learning_rate=1", "data.synthetic_regions=['GB']"])
    assert config.optim.learning_rate == 1.0
    assert config.data.synthetic_regions == ["GB"]


def test_learning_rate() -> None:
    optim = OptimSection(steps=100, warmup_steps=10, learning_rate=1.0, decay_share=0.5)
    assert learning_rate(optim, 0) == pytest.approx(0.1)
    assert learning_rate(optim, 9) == learning_rate(optim, 49) == 1.0
    assert learning_rate(optim, 75) == pytest.approx(0.5)
    assert learning_rate(optim, 100) == pytest.approx(0.0)


def test_frame_loss_weight() -> None:
    optim = OptimSection(frame_loss=1.0, frame_loss_floor=0.2, frame_loss_steps=10)
    assert [frame_loss_weight(optim, s) for s in (0, 5, 10, 99)] == pytest.approx(
        [1, 0.6, 0.2, 0.2]
    )


def test_frame_targets_of_two_lines() -> None:
    spec = PlateSpec(time_steps=16, rows=2)  # 8 steps a row, step i covers i/8..(i+1)/8
    ids = np.array([1, 2, 3], np.int32)
    across = (np.array([1, 4, 6]) + 0.5) / 8
    rows = np.array([0, 0, 1], np.uint8)
    top, bottom = frame_targets(ids, across, rows, spec).reshape(2, 8)
    assert top[1] == 1
    assert top[4] == 2
    assert spec.blank in (top[2], top[3])  # a gap of three steps has a blank in its middle
    assert bottom[6] == 3
    assert (bottom[:3] == spec.blank).all()


def test_frame_targets_of_one_line_leave_the_second_reader_blank() -> None:
    ids = DEFAULT_SPEC.encode("AB12")
    across = np.linspace(0.2, 0.8, 4)
    frames = frame_targets(ids, across, np.zeros(4, np.uint8), DEFAULT_SPEC).reshape(2, 24)
    assert (frames[1] == DEFAULT_SPEC.blank).all()
    written = [i for i in frames[0] if i not in (DEFAULT_SPEC.blank, FRAME_IGNORED)]
    assert written == ids.tolist()


def test_characters_outside_the_crop_are_not_asked_for() -> None:
    frames = frame_targets(
        np.array([5, 6], np.int32), np.array([-0.2, 0.5]), np.zeros(2, np.uint8), DEFAULT_SPEC
    )
    assert 5 not in frames
    assert 6 in frames


def test_losses_fall_to_zero_on_the_truth() -> None:
    ids = torch.tensor([4, 4, 9])
    path = torch.full((1, 48), 36)
    path[0, [3, 8, 12]] = ids
    logits = 40.0 * F.one_hot(path, 37)
    assert float(ctc_loss(logits, ids, torch.tensor([3]), 36)) < 1e-3
    assert float(frame_loss(logits, path, 0.0)) < 1e-3
    assert float(frame_loss(-logits, path, 0.0)) > 10
    assert float(frame_loss(logits, torch.full((1, 48), FRAME_IGNORED), 0.0)) == 0.0


def test_without_augmentation_the_crop_is_the_plate() -> None:
    rng = np.random.default_rng(0)
    image = np.random.default_rng(1).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    transform = view_transform(rng, corners(image), NO_AUGMENTATION, own_margin=True)
    crop = cut_out(rng, image, transform, NO_AUGMENTATION)
    assert np.array_equal(photograph(rng, crop, NO_AUGMENTATION), image)


def test_a_tight_crop_cuts_the_plate_but_keeps_what_it_must() -> None:
    tight = dataclasses.replace(NO_AUGMENTATION, tight=1.0)
    quad = np.array([[10, 10], [110, 10], [110, 40], [10, 40]], np.float32)
    centres = np.array([[14, 25], [20, 25], [104, 25]], np.float32)
    keep = outer_points(centres, np.zeros(3, np.uint8))
    assert np.allclose(keep, [[5, 25], [113, 25]])  # a fifth of the pitch of 45 px outwards
    cut = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        free = view_transform(rng, quad, tight, own_margin=False)
        edges = np.c_[quad, np.ones(4)] @ free.T
        cut += bool((edges[:, :2] / edges[:, 2:] < -0.02).any())
        rng = np.random.default_rng(seed)
        kept = view_transform(rng, quad, tight, own_margin=False, keep=keep)
        spots = np.c_[keep, np.ones(2)] @ kept.T
        assert (spots[:, 0] / spots[:, 2] >= -1e-6).all()
        assert (spots[:, 0] / spots[:, 2] <= 1 + 1e-6).all()
    assert cut > 40


def test_augmentation_is_fixed_by_its_seed_and_keeps_the_type() -> None:
    image = np.random.default_rng(1).integers(0, 256, (60, 200, 3), dtype=np.uint8)
    names = ["blur", "motion", "noise", "jpeg", "tone", "colour", "gray", "invert", "shadow"]
    names += ["occlusion", "glare", "low_resolution"]
    always = dataclasses.replace(DEFAULT_AUGMENTATION, **dict.fromkeys(names, 1.0))

    def make(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        transform = view_transform(rng, corners(image), always, own_margin=False)
        return photograph(rng, cut_out(rng, image, transform, always), always)

    for seed in range(20):
        crop = make(seed)
        assert crop.shape == (48, 96, 3)
        assert crop.dtype == np.uint8
        assert np.array_equal(crop, make(seed))
    assert not np.array_equal(make(1), make(2))


def test_sampling_levels_the_groups() -> None:
    big = [Record(Path(f"b{i}"), "A", "US", "street") for i in range(90)]
    small = [Record(Path(f"s{i}"), "A", "DE", "street") for i in range(10)]

    def shares(balance: float) -> dict[str, float]:
        weights = sampling_weights(big + small, balance, 1.0)
        total: Counter[str] = Counter()
        for record, weight in zip(big + small, weights, strict=True):
            total[record.region] += weight
        return dict(total)

    assert shares(0.0)["DE"] == pytest.approx(0.1)
    assert shares(1.0)["DE"] == pytest.approx(0.5)
    assert 0.1 < shares(0.5)["DE"] < 0.5
    half = [dataclasses.replace(r, trusted=False) for r in big]
    assert sampling_weights(half + small, 1.0, 3.0)[-10:].sum() == pytest.approx(0.75)


def test_regions_that_begin_alike_share_no_plates(tmp_path: Path) -> None:
    """Seen to fail when names were cut off at 40 characters."""

    def folder(*regions: str) -> Path:
        data = DataSection(synthetic_regions=list(regions), cache=str(tmp_path))
        return SyntheticPool(data, DEFAULT_CHARSET, seed=1, revision="r")._path(0)

    states = [f"US-{letter}A" for letter in "CGILMPVW"] * 7
    assert folder(*states, "US-DC") == folder(*states, "US-DC")
    assert folder(*states, "US-DC") != folder(*states, "DE")
    folder(*states).mkdir(parents=True)  # a name that file systems take
    assert "DE-FR" in folder("DE", "FR").name


def few_plates(cache: Path, region: str, plates: int) -> DataSection:
    """One generation of flat plates, a new one every step."""
    return DataSection(
        synthetic_regions=[region],
        synthetic_plates=plates,
        synthetic_generations=1,
        synthetic_refresh_steps=1,
        synthetic_photography=0.0,
        cache=str(cache),
    )


def test_runs_that_share_plates_leave_each_other_theirs(tmp_path: Path) -> None:
    """Seen to fail: whoever was ahead removed what the other drew from."""
    data = few_plates(tmp_path, "DE", 2)
    ahead, behind = (SyntheticPool(data, DEFAULT_CHARSET, 1, revision="r") for _ in range(2))
    behind.ensure(0)
    ahead.ensure(3)
    assert len(behind.generations(0)[0]) == 2
    behind.ensure(3)
    assert not behind._path(0).exists()
    assert behind.generations(3)[0][0].text == ahead.generations(3)[0][0].text


def test_plates_that_the_charset_cannot_write_are_drawn_again(tmp_path: Path) -> None:
    """Seen to fail: the letter O reached the trainer, which ended in a data process."""
    data = few_plates(tmp_path, "GB", 30)

    def texts(charset: Charset) -> list[str]:
        pool = SyntheticPool(data, charset, seed=1, revision="r")
        pool.ensure(0)
        (plates,) = pool.generations(0)
        return [plates[i].text for i in range(len(plates))]

    every, without = texts(DEFAULT_CHARSET), texts(TAO_US_CHARSET)
    assert any("O" in text for text in every)
    assert not any("O" in text for text in without)
    for old, new in zip(every, without, strict=True):
        assert old == new or "O" in old


def test_a_charset_that_can_write_no_drawn_plate_is_told_at_once(tmp_path: Path) -> None:
    data = DataSection(synthetic_regions=["GB"], cache=str(tmp_path))
    with pytest.raises(RegionError, match=r"can write 0 of .*real_share=1\.0.*other regions"):
        SyntheticPool(data, Charset.from_text("0123456789"), seed=1, revision="r")
    assert not any(tmp_path.iterdir())


def test_plates_of_other_fonts_are_other_plates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail: a font that was replaced left yesterday's plates in use."""

    def revision(folder: str, name: str, content: bytes) -> str:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
        monkeypatch.setenv("LPRNET_FONTS", str(tmp_path / folder))
        return generator_revision()

    first = revision("a", "die.otf", b"one")
    assert revision("b", "die.otf", b"one") == first
    assert revision("c", "die.otf", b"two") != first
    assert revision("d", "other.otf", b"one") != first
