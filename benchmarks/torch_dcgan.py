"""The chapter's DCGAN and its alternating step in PyTorch, for comparison of speed.

Shapes, operations and the order of the step are those of `dcgan_mnist.py`. Where a stride of 2
leaves a choice, an image's border is padded by two pixels on each side, which is PyTorch's way, and
not by one and two: no difference to the work.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy


def generator() -> nn.Module:
    """As in listing 4.2.1."""
    layers: list[nn.Module] = [nn.Linear(100, 7 * 7 * 128), nn.Unflatten(1, (128, 7, 7))]
    channels = 128
    for filters, stride in [(128, 2), (64, 2), (32, 1), (1, 1)]:
        conv = nn.ConvTranspose2d(
            channels, filters, 5, stride, padding=2, output_padding=stride - 1
        )
        layers += [nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01), nn.ReLU(), conv]
        channels = filters
    return nn.Sequential(*layers, nn.Sigmoid())


def discriminator() -> nn.Module:
    """As in listing 4.2.2, all but the sigmoid at its end, which `alternating_steps` applies."""
    layers: list[nn.Module] = []
    channels = 1
    for filters, stride in [(32, 2), (64, 2), (128, 2), (256, 1)]:
        layers += [nn.LeakyReLU(0.2), nn.Conv2d(channels, filters, 5, stride, padding=2)]
        channels = filters
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 4 * 256, 1))


def alternating_steps(
    images: np.ndarray, batch_size: int, precision: str, compiled: bool
) -> Callable[[int], object]:
    """Builds the two networks, in the channels-last layout.

    Args:
        images: uint8 of shape (N, 28, 28).
        batch_size: Real images a step.
        precision: "float32", or "bfloat16" with PyTorch's automatic mixed precision.
        compiled: Whether networks, on a GPU with CUDA graphs, and optimizers are compiled. That
            needs a C++ compiler.

    Returns:
        A function that takes as many steps as it is told to.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, which is TensorFlow's default
    g = generator().to(device, memory_format=torch.channels_last)
    d = discriminator().to(device, memory_format=torch.channels_last)
    g_optimizer = torch.optim.RMSprop(g.parameters(), lr=1e-4, alpha=0.9, eps=1e-7)
    d_optimizer = torch.optim.RMSprop(d.parameters(), lr=2e-4, alpha=0.9, eps=1e-7)
    draw, judge = g, d
    if compiled:
        draw, judge = (torch.compile(network, mode="reduce-overhead") for network in (g, d))
        for optimizer in (g_optimizer, d_optimizer):
            optimizer.step = torch.compile(optimizer.step)
    real_images = torch.from_numpy(images[:, np.newaxis]).to(device)
    ones = torch.ones(batch_size, 1, device=device)
    ones_and_zeros = torch.cat([ones, torch.zeros_like(ones)])
    rng = np.random.default_rng(0)

    def computing() -> torch.autocast:
        return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")

    def noise() -> torch.Tensor:
        drawn = rng.uniform(-1.0, 1.0, (batch_size, 100)).astype(np.float32)
        return torch.from_numpy(drawn).to(device)

    def learn(
        optimizer: torch.optim.Optimizer, logits: torch.Tensor, y: torch.Tensor
    ) -> list[torch.Tensor]:
        p = torch.sigmoid(logits.float())
        loss = binary_cross_entropy(p, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return [loss.detach(), ((p > 0.5) == (y > 0.5)).float().mean()]

    def step() -> torch.Tensor:
        if compiled:
            torch.compiler.cudagraph_mark_step_begin()
        picked = torch.from_numpy(rng.integers(0, len(images), batch_size)).to(device)
        real = real_images[picked].float() / 255
        d.requires_grad_(True)
        g.eval()
        with computing():
            with torch.no_grad():
                fake = draw(noise()).float()
            x = torch.cat([real, fake]).to(memory_format=torch.channels_last)
            logits = judge(x)
        d_figures = learn(d_optimizer, logits, ones_and_zeros)

        d.requires_grad_(False)
        g.train()
        with computing():
            logits = judge(draw(noise()))
        return torch.stack(d_figures + learn(g_optimizer, logits, ones))

    def take(steps: int) -> None:
        torch.stack([step() for _ in range(steps)]).cpu()

    return take
