"""The peers read our validation sets as well here as where they were first measured.

Pictures and peer models are kept outside the repository: `LPRNET_DATA` names the folder of the
labelled sets, and ../shared/peers/fast-plate-ocr holds the models.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training.data.records import read_set
from training.evaluation.measure import measure
from training.evaluation.peers import DEFAULT_PEER_DIR, PeerReader, known_peers
from training.evaluation.pictures import load_pictures

DATA = Path(os.environ.get("LPRNET_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))

pytestmark = [
    pytest.mark.real_plates,
    pytest.mark.skipif(not (DATA / "val").is_dir(), reason=f"no real plates in {DATA}"),
    pytest.mark.skipif(not known_peers(DEFAULT_PEER_DIR), reason=f"no peers in {DEFAULT_PEER_DIR}"),
]

# peer, set, strict %, folded %, two-line plates right: measured with the peer's own command
PUBLISHED = [
    ("cct_xs_v2_global", "eu", 94.9, 97.0, 53),
    ("cct_xs_v2_global", "eu_new_source", 92.5, 92.5, None),
    ("cct_xs_v2_global", "us", 86.7, 86.7, None),
    ("cct_xs_v1_global", "eu", 92.2, 95.7, 53),
    ("cct_xs_relu_v1_global", "eu_new_source", 95.6, 96.0, None),
]


@pytest.mark.parametrize(("peer", "name", "strict", "folded", "two_line"), PUBLISHED)
def test_peer_reaches_its_published_figures(
    peer: str, name: str, strict: float, folded: float, two_line: int | None
) -> None:
    pytest.importorskip("fast_plate_ocr")
    scores = measure(PeerReader(peer), load_pictures(name, read_set(DATA / "val" / name))).scores
    assert round(100 * scores.strict, 1) == strict
    assert round(100 * scores.folded, 1) == folded
    if two_line is not None:
        assert scores.by_lines["two lines"].strict.right == two_line
