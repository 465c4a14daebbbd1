#!/usr/bin/env python3
"""Times a training step in plain PyTorch: forward, backward, clipping, AdamW. Prints one line of JSON.

TAP on five backbones, Point-MAE and I2P-MAE: the same mathematics as `train/examples/time_step.rs`, written for this comparison
from the papers' descriptions.
`--remember` leaves the searches for neighbours out: their tables are those of the first step. `--share` does not repeat
the memory of the photograph module for each view of an object, as the published code does.
"""

import argparse
import json
import resource
import time

import torch
from torch import nn

import backbone
import masked
from photograph import Photograph, decoder

MODELS = {
    "mini": backbone.PointNet2Mini,
    "point-net2": backbone.PointNet2,
    "dgcnn": backbone.Dgcnn,
    "point-mlp": backbone.PointMlp,
    "transformer": backbone.Transformer,
}
MASKED = {"point-mae": masked.PointMae, "i2p-mae": masked.I2pMae}


class Tap(nn.Module):
    def __init__(self, name, searches, is_shared):
        super().__init__()
        self.searches, self.encoder = searches, MODELS[name](searches)
        if name == "mini":
            self.grid, self.views, self.channels = 4, 4, 1
            self.generator = Photograph(256, 4, 128, 2, 4, 32, 64, 0.0, True, is_shared)
            self.decoder = decoder(128, [(64, 2), (32, 2), (16, 2), (1, 2)])
        else:
            self.grid, self.views, self.channels = 7, 6, 3
            self.generator = Photograph(self.encoder.channels, 7, 256, 6, 32, 32, 8, 0.1, False, is_shared)
            self.decoder = decoder(256, [(128, 4), (64, 2), (32, 2), (3, 2)])

    def forward(self, xyz, features, rays):
        self.searches.begin()
        tokens, centers = self.encoder(xyz, features)
        return self.decoder(self.generator(tokens, centers, *rays))


def clouds(batch, points):
    """Points on squeezed spheres."""
    xyz = nn.functional.normalize(torch.randn(batch, points, 3), dim=2) * (torch.rand(batch, 1, 3) * 0.5 + 0.5)
    height = xyz[..., 1:2] - xyz[..., 1:2].amin(1, keepdim=True)
    return xyz, torch.cat([xyz, height], 2).transpose(1, 2).contiguous()


def masked_loss(model, batch):
    xyz, _ = clouds(batch, model.points)
    looks = masked.Looks.random(batch, model.points) if model.views else None
    return lambda: model.loss(xyz, looks)


def photograph_loss(tap, arguments):
    batch, views, grid = arguments.batch, tap.views, tap.grid
    xyz, features = clouds(batch, 1024)
    direction = nn.functional.normalize(torch.randn(batch, views, 1, 3), dim=-1).expand(-1, -1, grid * grid, -1)
    line = torch.linspace(0, 1, grid)
    position = torch.cartesian_prod(line, line).expand(batch, views, -1, -1)
    rays = torch.rand(batch, views, grid * grid, 3) - 0.5, direction, position
    with torch.no_grad():
        size = grid * 16 if arguments.model == "mini" else grid * 32
    target = torch.rand(batch * views, 1, size, size).expand(-1, tap.channels, -1, -1)
    mask = (target[:, :1] < 0.3).expand(-1, tap.channels, -1, -1)

    def loss():
        squared = (tap(xyz, features, rays) - target).square()
        return 20 * squared[mask].mean() + squared[~mask].mean()

    return loss


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=[*MODELS, *MASKED], required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--remember", action="store_true")
    parser.add_argument("--share", action="store_true")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    searches = backbone.Searches(arguments.remember)
    if arguments.model in MASKED:
        model = MASKED[arguments.model](searches)
        loss_of_batch = masked_loss(model, arguments.batch)
    else:
        model = Tap(arguments.model, searches, arguments.share)
        loss_of_batch = photograph_loss(model, arguments)
    flat = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    rest = [parameter for parameter in model.parameters() if parameter.dim() != 1]
    groups = [{"params": flat, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.05}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of_batch()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        return loss.item()

    step()
    step()
    if arguments.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            step()
        print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=30))
        return
    walls, cpus = [], []
    for _ in range(arguments.steps):
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    number = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"wall_s": walls, "cpu_s": cpus, "peak_mib": peak, "loss": loss, "weights": number}))


if __name__ == "__main__":
    main()
