"""PyTorch's own DataLoader over a data set. Run by `package.rs` in a folder with a data set."""

import unittest

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

import tap_views

COLUMNS = ["id", "label", "points", "images", "masks", "view_from_object"]


def dataset(**options):
    return tap_views.Dataset("shards", columns=COLUMNS, seed=3, **options)


def ids_of(loader):
    """Ids in the order in which they come, of batches or of single samples."""
    ids = []
    for batch in loader:
        ids += [batch["id"]] if isinstance(batch["id"], str) else batch["id"]
    return ids


class Loader(unittest.TestCase):
    def setUp(self):
        self.ids = sorted(row["id"] for row in dataset(shuffle=False))
        self.assertGreater(len(self.ids), 10)

    def test_batches_are_the_samples_in_the_order_of_the_epoch(self):
        rows = dataset()
        self.assertIsInstance(rows, IterableDataset)
        expected = list(dataset())
        batches = list(DataLoader(rows, batch_size=4))
        self.assertEqual(sum((batch["id"] for batch in batches), []), [row["id"] for row in expected])
        for name in COLUMNS[1:]:
            column = torch.cat([batch[name] for batch in batches])
            np.testing.assert_array_equal(column.numpy(), np.stack([row[name] for row in expected]), name)
        self.assertEqual(batches[0]["images"].dtype, torch.uint8)
        self.assertEqual(batches[0]["masks"].dtype, torch.bool)

    def test_an_epoch_has_each_row_once_for_any_workers_and_ranks(self):
        for context in ["fork", "spawn"]:
            rows = dataset(threads=1)
            loader = DataLoader(rows, batch_size=2, num_workers=2, multiprocessing_context=context)
            orders = []
            for epoch in range(2):
                rows.set_epoch(epoch)
                orders.append(ids_of(loader))
            with self.subTest(context=context):
                self.assertEqual([sorted(order) for order in orders], [self.ids] * 2)
                self.assertNotEqual(*orders)
        shares = [ids_of(DataLoader(dataset(rank=rank, world_size=3), batch_size=None)) for rank in range(3)]
        self.assertEqual(sorted(sum(shares, [])), self.ids)

    def test_a_loader_with_a_sampler_of_its_own_takes_rows_by_index(self):
        generator = torch.Generator().manual_seed(1)
        loader = DataLoader(dataset().by_index(), batch_size=3, shuffle=True, generator=generator)
        self.assertEqual(len(loader), -(-len(self.ids) // 3))
        order = ids_of(loader)
        self.assertEqual(sorted(order), self.ids)
        self.assertNotEqual(order, self.ids)

    def test_a_state_goes_on_where_a_loader_was(self):
        rows = dataset(threads=1)
        batches = iter(DataLoader(rows, batch_size=None))
        taken = [next(batches)["id"] for _ in range(5)]
        resumed = dataset(threads=2)
        resumed.load_state_dict(rows.state_dict())
        self.assertEqual(taken + ids_of(DataLoader(resumed, batch_size=None)), [row["id"] for row in dataset()])


if __name__ == "__main__":
    unittest.main()
