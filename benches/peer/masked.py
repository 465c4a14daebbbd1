"""Point-MAE and I2P-MAE in plain PyTorch, at the sizes that are published.

`loss(xyz, looks)` takes B,N,3 and what a frozen 2D network says of three depth images (`Looks`), which Point-MAE leaves aside.
Written for the comparison from `docs/method.md`; random masks are torch's.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

import geometry
from backbone import conv


@dataclass
class Looks:
    """Feature maps B,3,512,14,14 and saliency maps B,3,14,14 of the depth images, and the pixel of each point, B,3,N."""

    maps: torch.Tensor
    saliency: torch.Tensor
    pixels: torch.Tensor

    @staticmethod
    def random(batch, points):
        maps, saliency = torch.randn(batch, 3, 512, 14, 14), torch.rand(batch, 3, 14, 14) / 196
        return Looks(maps, saliency, torch.randint(224 * 224, (batch, 3, points)))

    def at_pixels(self, maps):
        """Maps B,3,C,14,14 at the points, B,N,3,C: resized to 224 x 224 and read, as published."""
        large = F.interpolate(maps.flatten(0, 1), size=224, mode="bicubic", align_corners=False).flatten(2)
        index = self.pixels.flatten(0, 1).unsqueeze(1).expand(-1, large.shape[1], -1)
        return large.gather(2, index).unflatten(0, self.pixels.shape[:2]).permute(0, 3, 1, 2)


def chamfer(points, truth):
    """The squared Chamfer distance of M,K,3 and M,K,3."""
    squared = geometry.squared_distances(points, truth)
    return squared.amin(2).mean() + squared.amin(1).mean()


class Block(nn.Module):
    """`hidden` is B,1,1,T: what is added to the logits of attention."""

    def __init__(self, channels, drop_path):
        super().__init__()
        self.drop_path = drop_path
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)
        self.fc1, self.fc2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def drop(self, x):
        keep = 1 - self.drop_path
        return x if keep == 1 else x * torch.empty(len(x), 1, 1).bernoulli_(keep) / keep

    def forward(self, x, hidden=None):
        batch, tokens, channels = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, 6, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv, attn_mask=hidden)
        x = x + self.drop(self.proj(mixed.transpose(1, 2).reshape(batch, tokens, channels)))
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


class Blocks(nn.ModuleList):
    def forward(self, x, position, hidden=None):
        for block in self:
            x = block(x + position, hidden)
        return x


def blocks(channels, rates):
    return Blocks(Block(channels, rate) for rate in rates)


def rising(num):
    return torch.linspace(0, 0.1, num).tolist()


def position(hidden, channels):
    return nn.Sequential(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, channels))


class GroupEmbedding(nn.Module):
    def __init__(self, channels, widths, out):
        super().__init__()
        self.first = nn.Sequential(conv(1, channels, widths[0], bias=True), nn.Conv1d(widths[0], widths[1], 1))
        both = 2 * widths[1]
        self.second = nn.Sequential(conv(1, both, both, bias=True), nn.Conv1d(both, out, 1))

    def forward(self, members):
        """B,G,K,C to B,G,out."""
        local = self.first(members.flatten(0, 1).transpose(1, 2))
        whole = local.amax(2, keepdim=True).expand_as(local)
        return self.second(torch.cat([whole, local], 1)).amax(2).unflatten(0, members.shape[:2])


class Grouping:
    """Centres by farthest points, and their nearest points, nearest first."""

    def __init__(self, searches, xyz, num, neighbors):
        self.centers = geometry.rows(xyz, searches(geometry.farthest_points, xyz, num))
        self.index = searches(nearest_first, xyz, self.centers, neighbors)
        self.points = geometry.rows(xyz, self.index) - self.centers.unsqueeze(2)


def nearest_first(points, queries, num):
    return geometry.squared_distances(queries, points).topk(num, largest=False, sorted=True).indices


def split(scores, num_visible):
    """Places of the visible and of the masked groups by the order of B,G scores."""
    order = scores.argsort(1)
    return order[:, :num_visible], order[:, num_visible:]


class PointMae(nn.Module):
    points, views = 1024, 0

    def __init__(self, searches):
        super().__init__()
        self.searches = searches
        self.embedding = GroupEmbedding(3, [128, 256], 384)
        self.encoder, self.decoder = blocks(384, rising(12)), blocks(384, rising(4))
        self.position, self.decoder_position = position(128, 384), position(128, 384)
        self.norm, self.decoder_norm = nn.LayerNorm(384), nn.LayerNorm(384)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, 384))
        self.increase_dim = nn.Conv1d(384, 96, 1)

    def loss(self, xyz, _looks):
        self.searches.begin()
        groups = Grouping(self.searches, xyz, 64, 32)
        visible, masked = split(torch.rand(groups.centers.shape[:2]), 26)
        tokens = geometry.rows(self.embedding(groups.points), visible)
        tokens = self.norm(self.encoder(tokens, self.position(geometry.rows(groups.centers, visible))))
        order = torch.cat([visible, masked], 1)
        tokens = torch.cat([tokens, self.mask_token.expand(*masked.shape, -1)], 1)
        tokens = self.decoder(tokens, self.decoder_position(geometry.rows(groups.centers, order)))
        tokens = self.decoder_norm(tokens[:, visible.shape[1] :])
        points = self.increase_dim(tokens.transpose(1, 2)).transpose(1, 2)
        return chamfer(points.reshape(-1, 32, 3), geometry.rows(groups.points, masked).flatten(0, 1))


class Propagation(nn.Module):
    def __init__(self, coarser, finer):
        super().__init__()
        self.fuse = conv(1, coarser + finer, finer, nn.GELU, bias=True)
        self.net1 = conv(1, finer, finer, nn.GELU, bias=True)
        self.net2 = nn.Sequential(nn.Conv1d(finer, finer, 1), nn.BatchNorm1d(finer))

    def forward(self, index, weight, finer, coarser):
        carried = (geometry.rows(coarser, index) * weight.unsqueeze(3)).sum(2)
        x = self.fuse(torch.cat([finer, carried], 2).transpose(1, 2))
        return F.gelu(self.net2(self.net1(x)) + x).transpose(1, 2)


class I2pMae(nn.Module):
    points, views = 2048, 3
    levels = [(512, 16, 96), (256, 8, 192), (64, 8, 384)]

    def __init__(self, searches):
        super().__init__()
        self.searches = searches
        widths = [channels for _, _, channels in self.levels]
        rates = rising(15)
        self.embeddings = nn.ModuleList(
            GroupEmbedding(before, [128, 256] if before == 3 else [before, before], width)
            for before, width in zip([3, *widths], widths)
        )
        self.positions = nn.ModuleList(position(width, width) for width in widths)
        self.encoders = nn.ModuleList(blocks(width, rates[5 * i : 5 * i + 5]) for i, width in enumerate(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, 384))
        self.decoders = nn.ModuleList([blocks(384, [0.0]), blocks(192, [0.1])])
        self.decoder_positions = nn.ModuleList([position(384, 384), position(192, 192)])
        self.propagation = Propagation(384, 192)
        self.decoder_norm = nn.LayerNorm(192)
        self.head_3d, self.head_2d = nn.Conv1d(192, 24, 1), nn.Conv1d(192, 8 * 3 * 512, 1)

    def encode(self, groups, seen):
        """The tokens of each level, B,G,C, zeros where hidden."""
        outputs, x = [], None
        layers = zip(groups, seen, self.embeddings, self.positions, self.encoders, self.norms)
        for group, flags, embedding, place, encoder, norm in layers:
            members = group.points if x is None else geometry.rows(x, group.index)
            x = embedding(members)
            counts = flags.sum(1, keepdim=True)
            order = (~flags).long().argsort(dim=1, stable=True)[:, : counts.max()]
            is_filled = torch.arange(order.shape[1]) < counts
            hidden = torch.where(is_filled, 0.0, -1e5)[:, None, None]
            packed = geometry.rows(x, order) * is_filled.unsqueeze(2)
            packed = encoder(packed, place(geometry.rows(group.centers, order) * is_filled.unsqueeze(2)), hidden)
            packed = packed.where(is_filled.unsqueeze(2), geometry.rows(x, order))
            x = x.scatter(1, order.unsqueeze(2).expand_as(packed), packed)
            outputs.append(norm(x) * flags.unsqueeze(2))
        return outputs

    def loss(self, xyz, looks):
        self.searches.begin()
        groups, sources, points = [], [], xyz
        for num, neighbors, _ in self.levels:
            groups.append(Grouping(self.searches, points, num, neighbors))
            points = groups[-1].centers
        # Which points of the cloud the centres of each level are, and the members of its groups.
        place = torch.arange(xyz.shape[1]).expand(len(xyz), -1)
        for group in groups:
            sources.append(place.gather(1, group.index.flatten(1)).view_as(group.index))
            place = sources[-1][..., 0]
        saliency = looks.at_pixels(looks.saliency.unsqueeze(2)).mean((2, 3)).gather(1, place)
        gumbel = -torch.log(-torch.log(torch.rand_like(saliency)))
        visible, _ = split(-(saliency.softmax(1).log() + gumbel), 13)
        seen = [torch.zeros(saliency.shape, dtype=torch.bool).scatter(1, visible, True)]
        for group, finer in zip(groups[:0:-1], groups[-2::-1]):
            of_members = seen[0].unsqueeze(2).expand_as(group.index).flatten(1).long()
            flags = torch.zeros(finer.centers.shape[:2], dtype=torch.long)
            seen.insert(0, flags.scatter_reduce(1, group.index.flatten(1), of_members, "amax").bool())
        encoded = self.encode(groups, seen)
        x = encoded[2] + (~seen[2]).unsqueeze(2) * self.mask_token
        x = self.decoders[0](x, self.decoder_positions[0](groups[2].centers))
        index = self.searches(nearest_first, groups[2].centers, groups[1].centers, 3)
        distance = (geometry.rows(groups[2].centers, index) - groups[1].centers.unsqueeze(2)).square().sum(3)
        weight = 1 / (distance + 1e-8)
        x = self.propagation(index, weight / weight.sum(2, keepdim=True), encoded[1], x)
        x = self.decoder_norm(self.decoders[1](x, self.decoder_positions[1](groups[1].centers)))
        points = self.head_3d(x[~seen[1]].unsqueeze(2)).view(-1, 8, 3)
        features = self.head_2d(x[seen[1]].unsqueeze(2)).squeeze(2)
        cloud, group = seen[1].nonzero(as_tuple=True)
        targets = looks.at_pixels(looks.maps)[cloud.unsqueeze(1), sources[1][cloud, group]].flatten(1)
        truth = groups[1].points[~seen[1]]
        return chamfer(points, truth) + F.mse_loss(features, targets)
