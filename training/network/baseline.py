"""The reference's baselines: ResNet-10/18 with an LSTM, 24 time steps.

Faithful to NVIDIA TAO LPRNet (tao_tensorflow1_backend, nvidia_tao_tf1/cv/lprnet): the input's
channels are summed to one, conv1 has stride 1 and is followed by a 3 x 3 max-pool of stride 1;
stages of 64, 128, 256 and 300 channels with strides 1, 2, 2, 1; the map [300, 12, 24] is read
column by column as 24 vectors of 3600 by an LSTM of 512.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

BN_EPS = 1e-4
BN_MOMENTUM = 0.003
LSTM_UNITS = 512
STAGES = ((64, 1), (128, 2), (256, 2), (300, 1))


class SameConv(nn.Module):
    """Convolution with TensorFlow's "same" padding: stride 2 pads (0, 1), not (1, 1)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride)
        total = max(kernel - stride, 0)
        self.pad = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        y: Tensor = self.conv(F.pad(x, self.pad))
        return y


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, projected by 1 x 1 where asked."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool) -> None:
        super().__init__()
        self.conv1 = SameConv(inputs, outputs, 3, stride)
        self.bn1 = _norm(outputs)
        self.conv2 = SameConv(outputs, outputs, 3, 1)
        self.bn2 = _norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if project:
            self.shortcut = nn.Sequential(SameConv(inputs, outputs, 1, stride), _norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class Baseline(nn.Module):
    """`baseline10` (one block a stage) and `baseline18` (two)."""

    def __init__(self, classes: int, blocks_per_stage: int) -> None:
        super().__init__()
        self.conv1 = SameConv(1, 64, 3, 1)
        self.bn1 = _norm(64)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        blocks: list[nn.Module] = []
        inputs = 64
        for outputs, stride in STAGES:
            for index in range(blocks_per_stage):
                first = index == 0
                blocks.append(BasicBlock(inputs, outputs, stride if first else 1, project=first))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.lstm = nn.LSTM(inputs * 12, LSTM_UNITS, batch_first=True)
        self.head = nn.Linear(LSTM_UNITS, classes)

    def forward(self, image: Tensor) -> Tensor:
        """FP32 [N, 3, 48, 96] in 0..1 -> logits [N, 24, classes]."""
        x = image.sum(dim=1, keepdim=True)
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.blocks(x)  # [N, 300, 12, 24]
        x = x.permute(0, 3, 2, 1).flatten(2)  # [N, 24, 12 * 300]
        x, _ = self.lstm(x)
        logits: Tensor = self.head(x)
        return logits
