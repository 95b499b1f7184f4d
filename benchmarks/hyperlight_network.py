"""The network of hyperlight's README, which its benchmark and its parity script share."""

import torch
from torch import nn
from torch.nn import functional as F


class ConvNet(nn.Module):
    """The README's network on images of 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 5), nn.Conv2d(16, 32, 3)
        self.conv3, self.conv4 = nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.leaky_relu(layer(x))
        return self.fc(x.mean((2, 3)))
