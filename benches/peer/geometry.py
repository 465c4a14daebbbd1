"""Searches on point clouds in plain PyTorch: what one writes without a compiled extension."""

import torch


def squared_distances(queries, points):
    """B,G,3 and B,N,3 to B,G,N."""
    return (queries.unsqueeze(2) - points.unsqueeze(1)).square().sum(-1)


def rows(points, index):
    """Rows `index` (B,...) of B,N,C."""
    batch = torch.arange(len(points)).view(-1, *[1] * (index.dim() - 1))
    return points[batch, index]


def farthest_points(xyz, num):
    """B,N,3 to B,num indices, from index 0 on."""
    batch, count, _ = xyz.shape
    chosen = torch.zeros(batch, num, dtype=torch.long)
    distance = torch.full((batch, count), 1e10)
    current = torch.zeros(batch, 1, dtype=torch.long)
    for i in range(num):
        chosen[:, i : i + 1] = current
        distance = torch.minimum(distance, squared_distances(rows(xyz, current), xyz).squeeze(1))
        current = distance.argmax(-1, keepdim=True)
    return chosen


def first_in_ball(points, queries, radius, num):
    """The first `num` points within the radius, in index order; free places repeat the first."""
    count = points.shape[1]
    index = torch.arange(count).where(squared_distances(queries, points) < radius * radius, count)
    index = index.topk(num, largest=False, sorted=True).values
    first = index[..., :1]
    index = index.where(index < count, first)
    return index.where(index < count, 0)


def nearest_in_ball(points, queries, radius, num):
    """The nearest `num` points within the radius; free places repeat the nearest."""
    squared, index = squared_distances(queries, points).topk(num, largest=False, sorted=True)
    index = index.where(squared < radius * radius, index[..., :1])
    return index


def nearest(points, queries, num):
    """The `num` nearest points, in no order, by the expanded square."""
    squared = queries.square().sum(-1, keepdim=True) + points.square().sum(-1).unsqueeze(1)
    squared = torch.baddbmm(squared, queries, points.transpose(1, 2), alpha=-2)
    return squared.topk(num, largest=False, sorted=False).indices


def group(features, index):
    """B,C,N by B,G,K to B,C,G,K."""
    batch, channels, _ = features.shape
    flat = index.flatten(1).unsqueeze(1).expand(-1, channels, -1)
    return features.gather(2, flat).view(batch, channels, *index.shape[1:])
