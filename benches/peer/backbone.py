"""The four backbones of TAP, and the small PointNet++, in plain PyTorch: B,C,N tensors and 1x1 convolutions.

`forward(xyz, features)` takes B,N,3 and B,4,N and gives tokens B,C,M with their centres B,M,3.
`searches` is where indices come from: `Searches` computes them every step.
"""

import torch
import torch.nn.functional as F
from torch import nn

import geometry


class Searches:
    """Computes every index table, or hands out those of the first step again."""

    def __init__(self, is_remembered):
        self.is_remembered = is_remembered
        self.tables, self.place = [], 0

    def begin(self):
        self.place = 0

    def __call__(self, search, *arguments):
        if self.is_remembered and self.place < len(self.tables):
            table = self.tables[self.place]
        else:
            with torch.no_grad():
                table = search(*arguments)
            self.tables.append(table)
        self.place += 1
        return table


def conv(axes, channels, width, activation=nn.ReLU, bias=False):
    make, norm = (nn.Conv1d, nn.BatchNorm1d) if axes == 1 else (nn.Conv2d, nn.BatchNorm2d)
    return nn.Sequential(make(channels, width, 1, bias=bias), norm(width), activation())


def mlp(axes, channels, widths):
    layers = []
    for width in widths:
        layers.append(conv(axes, channels, width))
        channels = width
    return nn.Sequential(*layers)


class PointNet2(nn.Module):
    channels = 1024
    stages = [(512, 0.2, 32, [64, 64, 128]), (128, 0.4, 64, [128, 128, 256]), (64, 0.2, 32, [256, 512, 1024])]

    def __init__(self, searches):
        super().__init__()
        self.searches = searches
        widths = [4] + [stage[3][-1] for stage in self.stages]
        self.mlps = nn.ModuleList(
            mlp(2, 3 + channels, stage[3]) for channels, stage in zip(widths, self.stages)
        )

    def forward(self, xyz, features):
        for shared, (num, radius, neighbors, _) in zip(self.mlps, self.stages):
            centers = geometry.rows(xyz, self.searches(geometry.farthest_points, xyz, num))
            index = self.searches(geometry.first_in_ball, xyz, centers, radius, neighbors)
            relative = geometry.group(xyz.transpose(1, 2), index) - centers.transpose(1, 2).unsqueeze(3)
            grouped = torch.cat([relative, geometry.group(features, index)], 1)
            xyz, features = centers, shared(grouped).amax(3)
        return features, xyz


class PointNet2Mini(nn.Module):
    channels = 256
    stages = [(128, 0.2, 16, [32, 32, 64]), (32, 0.4, 16, [64, 64, 128])]

    def __init__(self, searches):
        super().__init__()
        self.searches = searches
        self.mlps = nn.ModuleList([mlp(2, 4, [32, 32, 64]), mlp(2, 67, [64, 64, 128])])
        self.last = mlp(1, 131, [128, 256])

    def forward(self, xyz, features):
        points = self.searches(geometry.farthest_points, xyz, 512)
        xyz, features = geometry.rows(xyz, points), geometry.rows(features[:, 3:].transpose(1, 2), points).transpose(1, 2)
        for shared, (num, radius, neighbors, _) in zip(self.mlps, self.stages):
            # Farthest points of a farthest-point sample are its first ones.
            centers = xyz[:, :num]
            index = self.searches(geometry.nearest_in_ball, xyz, centers, radius, neighbors)
            relative = geometry.group(xyz.transpose(1, 2), index) - centers.transpose(1, 2).unsqueeze(3)
            grouped = torch.cat([relative, geometry.group(features, index)], 1)
            xyz, features = centers, shared(grouped).amax(3)
        return self.last(torch.cat([xyz.transpose(1, 2), features], 1)), xyz


class Dgcnn(nn.Module):
    channels = 1024

    def __init__(self, searches):
        super().__init__()
        self.searches = searches
        leaky = lambda: nn.LeakyReLU(0.2)
        self.edges = nn.ModuleList(
            conv(2, 2 * channels, width, leaky) for channels, width in [(4, 64), (64, 64), (64, 128), (128, 256)]
        )
        self.fusion = conv(1, 512, 1024, leaky)

    def forward(self, xyz, features):
        outputs = []
        for layer, edge in enumerate(self.edges):
            space = xyz if layer == 0 else features.transpose(1, 2)
            index = self.searches(geometry.nearest, space, space, 20)
            center = features.unsqueeze(3).expand(-1, -1, -1, 20)
            neighbor = geometry.group(features, index)
            features = edge(torch.cat([center, neighbor - center], 1)).amax(3)
            outputs.append(features)
        return self.fusion(torch.cat(outputs, 1)), xyz


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net1 = conv(1, channels, channels)
        self.net2 = nn.Sequential(nn.Conv1d(channels, channels, 1, bias=False), nn.BatchNorm1d(channels))

    def forward(self, x):
        return F.relu(self.net2(self.net1(x)) + x)


class PointMlp(nn.Module):
    channels = 1024

    def __init__(self, searches):
        super().__init__()
        self.searches = searches
        self.embedding = conv(1, 4, 64)
        widths = [64, 128, 256, 512]
        self.alpha = nn.ParameterList(torch.ones(1, 1, 1, width) for width in widths)
        self.beta = nn.ParameterList(torch.zeros(1, 1, 1, width) for width in widths)
        blocks = lambda width: [Residual(width), Residual(width)]
        self.pre = nn.ModuleList(nn.Sequential(conv(1, 2 * w, 2 * w), *blocks(2 * w)) for w in widths)
        self.pos = nn.ModuleList(nn.Sequential(*blocks(2 * w)) for w in widths)

    def forward(self, xyz, features):
        features = self.embedding(features)
        for alpha, beta, pre, pos in zip(self.alpha, self.beta, self.pre, self.pos):
            num = xyz.shape[1] // 2
            centers = self.searches(geometry.farthest_points, xyz, num)
            index = self.searches(geometry.nearest, xyz, geometry.rows(xyz, centers), 24)
            points = features.transpose(1, 2)
            anchor = geometry.rows(points, centers).unsqueeze(2)
            difference = geometry.rows(points, index) - anchor
            deviation = difference.flatten(1).std(-1).view(-1, 1, 1, 1)
            grouped = alpha * (difference / (deviation + 1e-5)) + beta
            grouped = torch.cat([grouped, anchor.expand_as(grouped)], -1)
            batch, _, neighbors, channels = grouped.shape
            grouped = grouped.flatten(0, 1).transpose(1, 2)
            features = pre(grouped).amax(2).view(batch, num, channels).transpose(1, 2)
            features = pos(features)
            xyz = geometry.rows(xyz, centers)
        return features, xyz


class Block(nn.Module):
    def __init__(self, channels, heads, drop_path):
        super().__init__()
        self.heads, self.drop_path = heads, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)
        self.fc1, self.fc2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def drop(self, x):
        if self.drop_path == 0 or not self.training:
            return x
        keep = 1 - self.drop_path
        return x * torch.empty(len(x), 1, 1).bernoulli_(keep) / keep

    def forward(self, x):
        batch, tokens, channels = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(batch, tokens, channels)
        x = x + self.drop(self.proj(mixed))
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


class Transformer(nn.Module):
    channels = 384

    def __init__(self, searches):
        super().__init__()
        self.searches = searches
        self.first = nn.Sequential(conv(1, 3, 128, bias=True), nn.Conv1d(128, 256, 1))
        self.second = nn.Sequential(conv(1, 512, 512, bias=True), nn.Conv1d(512, 256, 1))
        self.reduce = nn.Linear(256, 384)
        self.position = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, 384))
        self.cls_token, self.cls_pos = nn.Parameter(torch.zeros(1, 1, 384)), nn.Parameter(torch.randn(1, 1, 384))
        self.blocks = nn.ModuleList(Block(384, 6, 0.1 * i / 11) for i in range(12))
        self.norm = nn.LayerNorm(384)

    def forward(self, xyz, features):
        centers = geometry.rows(xyz, self.searches(geometry.farthest_points, xyz, 256))
        index = self.searches(geometry.first_in_ball, xyz, centers, 0.1, 32)
        batch, groups, neighbors = index.shape
        points = (geometry.rows(xyz, index) - centers.unsqueeze(2)).flatten(0, 1).transpose(1, 2)
        local = self.first(points)
        whole = local.amax(2, keepdim=True).expand(-1, -1, neighbors)
        tokens = self.reduce(self.second(torch.cat([whole, local], 1)).amax(2)).view(batch, groups, -1)
        x = torch.cat([self.cls_token.expand(batch, -1, -1), tokens], 1)
        position = torch.cat([self.cls_pos.expand(batch, -1, -1), self.position(centers)], 1)
        for block in self.blocks:
            x = block(x + position)
        return self.norm(x)[:, 1:].transpose(1, 2), centers
