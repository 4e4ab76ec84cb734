"""A layer of a chain with skips whose filters and sources are chosen at every call. Shapes as in `skip_layers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.elastic import ElasticBatchNorm
from hwnas.nn.gates import Gate, product_if_any, weight_if_any
from hwnas.nn.skip_layers import FlatConvNormRelu, SkipLayer, joined
from hwnas.nn.strided import trainable_conv2d


@dataclass(frozen=True)
class SoftLayer:
    """The gates of one layer, each with the sizes that its options mean.

    Attributes:
        height: Of the filters.
        width: Of the filters.
        filters: How many.
        sources: For each layer that it may read a gate over 0 and 1.
        heights: Options of `height`.
        widths: Options of `width`.
        counts: Options of `filters`.
    """

    height: Gate
    width: Gate
    filters: Gate
    sources: Mapping[int, Gate]
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    counts: tuple[int, ...]


class ElasticSkipLayer(nn.Module):
    """A layer whose filter, filters and sources are chosen at every call.

    It has a weight of its own for every source. A smaller filter is the centre of the largest, fewer are the first.

    Args:
        channels: Of the images.
        height: Of the largest filter.
        width: Of the largest filter.
        filters: At most, here and in every source.
        sources: Layers that it may read, counted from 0.
    """

    def __init__(self, channels: int, *, height: int, width: int, filters: int, sources: Sequence[int]) -> None:
        super().__init__()
        self.image = nn.Conv2d(channels, filters, (height, width), bias=False)
        self.sources = nn.ModuleDict({
            str(source): nn.Conv2d(filters, filters, (height, width), bias=False) for source in sources
        })
        self.norm = ElasticBatchNorm(filters)

    def forward(self, x: Tensor, values: Sequence[Tensor], layer: SkipLayer) -> Tensor:
        """One choice: the layer of the image, or of what earlier layers gave.

        Args:
            x: Images [n, channels, h, w].
            values: What each earlier layer gave.
            layer: The choice.

        Returns:
            [n, filters, ceil(h / stride), ceil(w / stride)].
        """
        read = [values[source] for source in layer.sources]
        weight = self._weight(layer, [value.shape[1] for value in read])
        margins = layer.height // 2, layer.width // 2
        y = trainable_conv2d(joined(read or [x]), weight, stride=layer.stride, padding=margins)
        return F.relu(self.norm(y), inplace=True)

    def soft(self, x: Tensor, values: Sequence[Tensor], gates: SoftLayer) -> Tensor:
        """The relaxation: filters mixed as weights, filters that may be missing scaled by how surely they are there.

        A source counts as much as it is read, the image as much as no source is. The norm sees each channel by itself,
        so a channel that is scaled to 0 after it changes nothing. With one-hot gates the result equals the hard call.
        Our own, as the paper has none.

        Args:
            x: Images [n, channels, h, w].
            values: What each earlier layer gave, of as many channels as its gates support at most.
            gates: Of this layer.
        """
        count = max(gates.counts[code] for code in gates.filters.support)
        heights, widths = (
            _extents(gate, options, like=x)
            for gate, options in ((gates.height, gates.heights), (gates.width, gates.widths))
        )
        mask = heights[:, None] * widths[None, :]
        nothing = product_if_any([weight_if_any(gate, 0) for gate in gates.sources.values()])
        read = [(weight_if_any(gate, 1), self.sources[str(s)], values[s]) for s, gate in gates.sources.items()]
        total: Tensor | None = None
        for share, conv, value in [*read, (nothing, self.image, x)]:
            if share is None:
                continue
            kernel = _centre(cast(Tensor, conv.weight), *mask.shape)[:count, : value.shape[1]] * mask
            part = share * F.conv2d(value, kernel, padding=(mask.shape[0] // 2, mask.shape[1] // 2))
            total = part if total is None else total + part
        # A gate's support is never empty, so that either a source is read with some weight, or the image is.
        present = x.new_zeros(count)
        for code in gates.filters.support:
            present = present + gates.filters.weight(code) * (torch.arange(count) < gates.counts[code]).to(x)
        return F.relu(self.norm(cast(Tensor, total))) * present.reshape(1, -1, 1, 1)

    def cut(self, plain: FlatConvNormRelu, layer: SkipLayer, counts: Sequence[int]) -> None:
        """Copy the weights of a choice into its plain layer.

        Args:
            plain: The layer.
            layer: The choice.
            counts: Filters of each of its sources.
        """
        with torch.no_grad():
            plain.conv.weight.copy_(self._weight(layer, counts))
        self.norm.cut(plain.norm)

    def _weight(self, layer: SkipLayer, counts: Sequence[int]) -> Tensor:
        """[filters, channels read, height, width]."""
        if not layer.sources:
            return _centre(self.image.weight, layer.height, layer.width)[: layer.filters]
        parts = [
            _centre(cast(Tensor, self.sources[str(source)].weight), layer.height, layer.width)[: layer.filters, :count]
            for source, count in zip(layer.sources, counts, strict=True)
        ]
        return torch.cat(parts, dim=1)


def _centre(weight: Tensor, height: int, width: int) -> Tensor:
    """The middle of a filter [..., h, w]."""
    top, left = (weight.shape[-2] - height) // 2, (weight.shape[-1] - width) // 2
    return weight[..., top : top + height, left : left + width]


def _extents(gate: Gate, options: Sequence[int], *, like: Tensor) -> Tensor:
    """How surely a filter of the largest supported extent is there, place by place."""
    largest = max(options[code] for code in gate.support)
    total = like.new_zeros(largest)
    for code in gate.support:
        margin = (largest - options[code]) // 2
        total = total + gate.weight(code) * F.pad(like.new_ones(options[code]), (margin, margin))
    return total
