"""`small`: a convolutional reader with two row readers, made for INT8.

A residual trunk brings the crop to a map of 6 x 24. Two row readers (top, bottom) each attend
over the map's height, separately per column and per head, so that a slanted or two-line plate
is followed; their sequences pass shared convolutions of one row and are joined top then bottom to
T = 48. A one-line plate is read by the first reader while the second one writes blanks.
No operation mixes pictures of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lprnet.errors import LprnetError

ROWS = 2
COLUMNS = 24
MAP_HEIGHT = 6


@dataclass(frozen=True)
class SmallConfig:
    """Shape of `small`.

    Attributes:
        stem: channels at 24 x 48.
        middle: channels at 12 x 24.
        deep: channels at 6 x 24 and of the row readers; a multiple of `heads`.
        stem_blocks, middle_blocks, deep_blocks: residual blocks of each resolution.
        heads: channel groups of a row reader, each with its own attention over height.
        context: convolutions over each row's sequence.
        reach: their width in time steps, odd.
        dropout: on the row features, training only, 0..1.
    """

    stem: int = 32
    middle: int = 64
    deep: int = 112
    stem_blocks: int = 1
    middle_blocks: int = 2
    deep_blocks: int = 2
    heads: int = 8
    context: int = 3
    reach: int = 9
    dropout: float = 0.1

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> SmallConfig:
        """Defaults with `options` on top.

        Raises:
            LprnetError: for unknown names and values that make no network.
        """
        unknown = set(options) - {f.name for f in fields(cls)}
        if unknown:
            raise LprnetError(f"network small has no options {sorted(unknown)}")
        config = cls(**options)
        config._check_values()
        if config.deep % config.heads:
            raise LprnetError(
                f"network small: deep={config.deep} is no multiple of heads={config.heads}"
            )
        if config.reach % 2 == 0:
            raise LprnetError(f"network small: reach={config.reach} must be odd")
        return config

    def _check_values(self) -> None:
        for name, value in vars(self).items():
            if name == "dropout":
                if type(value) not in (int, float) or not 0 <= value < 1:
                    raise LprnetError(f"network small: dropout must be in 0..1, not {value!r}")
                continue
            least = 0 if name == "context" or name.endswith("_blocks") else 1
            if type(value) is not int or value < least:
                raise LprnetError(
                    f"network small: {name} must be a whole number of at least {least}, "
                    f"not {value!r}"
                )


def _conv_bn(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> nn.Sequential:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    """Two convolutions and a shortcut; the shortcut is projected where the shape changes."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: tuple[int, int] = (1, 1),
        kernel: tuple[int, int] = (3, 3),
    ) -> None:
        super().__init__()
        self.first = _conv_bn(inputs, outputs, kernel, stride)
        self.second = _conv_bn(outputs, outputs, kernel, (1, 1))
        # The last scale starts at zero, so that a block starts as its shortcut and deep stacks
        # train from the first step (Goyal et al. 2017, section 5.1).
        last = self.second[1]
        assert isinstance(last, nn.BatchNorm2d)
        nn.init.zeros_(last.weight)
        same = inputs == outputs and stride == (1, 1)
        self.shortcut = nn.Identity() if same else _conv_bn(inputs, outputs, (1, 1), stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        y = self.second(F.relu(self.first(x)))
        return F.relu(y + self.shortcut(x))


class RowReaders(nn.Module):
    """Attention over height: [N, C, 6, 24] -> [N, C, ROWS, 24], one row for each reader."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.channels = channels
        self.score = nn.Conv2d(channels, ROWS * heads, 1)
        # Readers start on the upper and on the lower part, else both would learn the same row.
        height = torch.linspace(-1, 1, MAP_HEIGHT)
        start = torch.stack([-height, height])[:, None, :, None].repeat(1, heads, 1, 1)
        self.position = nn.Parameter(start.reshape(1, ROWS * heads, MAP_HEIGHT, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, 6, 24] -> [N, C, ROWS, 24]."""
        weights = torch.softmax(self.score(x) + self.position, dim=2)  # over height
        grouped = x.reshape(-1, self.heads, self.channels // self.heads, MAP_HEIGHT, COLUMNS)
        rows = []
        for row in range(ROWS):
            mine = weights[:, row * self.heads : (row + 1) * self.heads].unsqueeze(2)
            rows.append((grouped * mine).sum(dim=3).reshape(-1, self.channels, 1, COLUMNS))
        return torch.cat(rows, dim=2)


class Small(nn.Module):
    """The shipped reader: FP32 [N, 3, 48, 96] RGB in 0..1 -> logits [N, 48, classes]."""

    def __init__(self, classes: int, config: SmallConfig | None = None) -> None:
        super().__init__()
        config = SmallConfig() if config is None else config
        self.config = config
        blocks: list[nn.Module] = [_conv_bn(3, config.stem, (3, 3), (2, 2)), nn.ReLU()]
        blocks += [Residual(config.stem, config.stem) for _ in range(config.stem_blocks)]
        blocks.append(Residual(config.stem, config.middle, (2, 2)))
        blocks += [Residual(config.middle, config.middle) for _ in range(config.middle_blocks - 1)]
        blocks.append(Residual(config.middle, config.deep, (2, 1)))
        blocks += [Residual(config.deep, config.deep) for _ in range(config.deep_blocks - 1)]
        self.trunk = nn.Sequential(*blocks)
        self.readers = RowReaders(config.deep, config.heads)
        # The whole plate's mean tells each step which country's rules hold.
        self.summary = nn.Linear(config.deep, config.deep)
        self.context = nn.Sequential(
            *(_row_block(config.deep, config.reach) for _ in range(config.context))
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Conv2d(config.deep, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """FP32 [N, 3, 48, 96] in 0..1 -> logits [N, 48, classes], top row's 24 steps first."""
        x = self.trunk(image - 0.5)  # [N, deep, 6, 24]
        rows = self.readers(x)  # [N, deep, 2, 24]
        rows = rows + self.summary(x.mean(dim=(2, 3)))[:, :, None, None]
        rows = self.head(self.dropout(self.context(rows)))  # [N, classes, 2, 24]
        logits: Tensor = rows.flatten(2).transpose(1, 2)
        return logits


class _RowResidual(nn.Module):
    """One convolution along a row, with a shortcut."""

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.conv = _conv_bn(channels, channels, (1, reach), (1, 1))
        scale = self.conv[1]
        assert isinstance(scale, nn.BatchNorm2d)
        nn.init.zeros_(scale.weight)  # starts as its shortcut, as `Residual` does

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, ROWS, 24] -> the same shape."""
        return F.relu(x + self.conv(x))


def _row_block(channels: int, reach: int) -> nn.Module:
    return _RowResidual(channels, reach)
