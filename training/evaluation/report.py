"""One self-contained HTML file: figures, confusions and a sheet of the worst mistakes.

It embeds pictures of the plates that were read wrong: keep it as private as the sets.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from lprnet import __version__
from lprnet.image import UInt8Array
from training.evaluation import plots, tables
from training.evaluation.alignment import align
from training.evaluation.measure import Measurement
from training.evaluation.result import Evaluation, confusion_rows, pool, write_text

MISTAKES = 48
CONFUSIONS = 30
THUMBNAIL_PX = 240


def data_uri(pixels: UInt8Array, longest_px: int = THUMBNAIL_PX) -> str:
    """UINT8 [H, W, 3] RGB -> JPEG data URI, shrunk to at most `longest_px`."""
    scale = min(1.0, longest_px / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if not good:
        raise ValueError(f"OpenCV cannot encode a picture of shape {small.shape}")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def worst_mistakes(measurement: Measurement, count: int = MISTAKES) -> list[dict[str, Any]]:
    """The most confident wrong plates, most confident first, ready for the template."""
    confidences = measurement.answers.confidences
    labelled = measurement.labelled
    wrong = [
        i
        for i in np.argsort(-confidences, kind="stable")
        if not measurement.right[i] and labelled.pictures[i] is not None
    ]
    sheet = []
    for i in wrong[:count]:
        record, picture = labelled.records[i], labelled.pictures[i]
        assert picture is not None
        pairs = align(record.text, measurement.answers.plates[i])
        sheet.append(
            {
                "image": data_uri(picture.pixels),
                "label": record.text,
                "read": [(written or "_", expected != written) for expected, written in pairs],
                "confidence": f"{confidences[i]:.3f}",
                "place": f"{record.source} {record.region} {record.path.name}",
            }
        )
    return sheet


def _details(result: Evaluation) -> list[dict[str, Any]]:
    found = []
    for name in result.descriptions:
        mine = result.of_reader(name)
        sets = []
        for m in mine:
            groups = [
                {"header": (title, *tables.GROUP_HEADER[1:]), "rows": tables.group_rows(parts)}
                for title, parts in (
                    ("lines", m.scores.by_lines),
                    ("source", m.scores.by_source),
                    ("region", m.scores.by_region),
                )
            ]
            sets.append(
                {"name": m.labelled.name, "groups": groups, "unreadable": m.labelled.unreadable}
            )
        together = pool(mine)
        found.append(
            {
                "name": name,
                "sets": sets,
                "confusions": confusion_rows(together)[:CONFUSIONS],
                "mistakes": worst_mistakes(together),
            }
        )
    return found


def render_html(result: Evaluation) -> str:
    """The report as HTML text; nothing in it is fetched from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    pooled = result.pooled()
    rows = [tables.overview_row(m) for m in result.measurements]
    if len(result.sets) > 1:
        rows += [tables.overview_row(m) for m in pooled]
    figures = {
        "accuracy": plots.accuracy_bars(result.measurements),
        "reliability": plots.reliability_diagram(pooled),
        "coverage": plots.coverage_plot(pooled),
        "robustness": plots.robustness_plot(result.curves) if result.curves else "",
    }
    robustness_header, robustness = (
        tables.robustness_table(result.curves) if result.curves else ((), [])
    )
    return environment.get_template("report.html.j2").render(
        result=result,
        version=__version__,
        overview_header=tables.OVERVIEW_HEADER,
        overview=rows,
        # Our own SVG is the one thing that goes in unescaped; file names inside it are escaped
        # by matplotlib.
        figures={name: Markup(svg) for name, svg in figures.items()},
        speed_header=tables.SPEED_HEADER,
        speed=tables.speed_rows(result.speed),
        robustness_header=robustness_header,
        robustness=robustness,
        details=_details(result),
    )


def write_html(result: Evaluation, path: Path) -> None:
    """Write `render_html`. Raises LprnetError when the file cannot be written."""
    write_text(path, render_html(result))
