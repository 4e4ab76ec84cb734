"""Plain layers whose width, kernel or heads are decided: one set of weights from which smaller ones are cut.

A width that is a `ValueChoice` is passed to the layer that makes it and to all that read it. Under soft gates kernels
are mixed as weights. Widths are not: a norm, a squeeze or a mean over channels that follows would see zeros where the
smaller network has nothing, so a soft width of several options is refused (`InvertedBottleneck`, which knows what
follows, has one). Shapes: n images, c channels, h height, w width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.core import Option, SpaceError
from hwnas.nn.answering import answer_to
from hwnas.nn.choices import Memo, Options, Part
from hwnas.nn.depthwise import depthwise_convolution
from hwnas.nn.elastic import ElasticMBConv, centre
from hwnas.nn.gates import Gate
from hwnas.nn.strided import trainable_conv2d
from hwnas.nn.values import Value, ValueChoice, choices_of, largest_of, value_at
from hwnas.space import Decision


def decisions_of(*values: int | Value) -> tuple[Decision, ...]:
    """The decisions in some numbers, each once.

    Example:
        >>> width = ValueChoice((8, 16), label="width")
        >>> [decision.label for decision in decisions_of(3, width, 2 * width)]
        ['width']
    """
    found = {choice.label: choice for value in values for choice in choices_of(value)}
    return tuple(Decision(label, choice.options) for label, choice in found.items())


def hard(value: int | Value, where: str) -> tuple[int, Tensor | None]:
    """A width in the call at hand, and the gate's value of it, which carries a gradient; None without gates.

    Raises:
        SpaceError: If a gate supports several widths.
    """
    options: dict[str, Option] = {}
    weight: Tensor | None = None
    for choice in choices_of(value):
        answer = answer_to(choice.label)
        if not isinstance(answer, Gate):
            options[choice.label] = answer
            continue
        if len(answer.support) > 1:
            raise SpaceError(
                f"{where}: the gate of width {choice.label!r} supports {len(answer.support)} options; a width is hard, "
                "because norms would see the channels that are switched off",
                hint="sample this decision, one option per step; or use nn.InvertedBottleneck, whose expansion may mix",
            )
        [code] = answer.support
        options[choice.label] = choice.options[code]
        weight = answer.weight(code) if weight is None else weight * answer.weight(code)
    return value_at(value, options), weight


def _weighed(y: Tensor, weights: Sequence[Tensor | None]) -> Tensor:
    for weight in weights:
        if weight is not None:
            y = y * weight
    return y


class ElasticConv2d(nn.Module):
    """A convolution whose width and kernel are decided; padded so that images keep their size at stride 1.

    Args:
        in_channels: Or the value that decides them.
        out_channels: Or the value that decides them; with `depthwise` the incoming ones.
        kernel_size: Odd, or the value that decides it.
        stride: Of the convolution.
        depthwise: Whether each channel has its own kernel.
        bias: Whether there is one.

    Raises:
        SpaceError: If a kernel is even, or a depthwise convolution changes the width.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> conv = ElasticConv2d(3, ValueChoice((8, 16), label="width"), ValueChoice((3, 5), label="kernel"))
        >>> with answering(Architecture({"width": 8, "kernel": 5})):
        ...     tuple(conv(torch.zeros(1, 3, 6, 6)).shape)
        (1, 8, 6, 6)
    """

    def __init__(
        self,
        in_channels: int | Value,
        out_channels: int | Value,
        kernel_size: int | Value,
        *,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        kernels = [kernel_size] if isinstance(kernel_size, int) else list(choices_of(kernel_size)[0].options)
        if isinstance(kernel_size, int | ValueChoice) and any(kernel % 2 == 0 for kernel in kernels):
            raise SpaceError(
                f"ElasticConv2d: kernel_size holds {kernels}; kernels are odd, so that images keep their centre"
            )
        if depthwise and in_channels != out_channels:
            raise SpaceError(
                f"ElasticConv2d: depthwise from {in_channels} to {out_channels} channels; they must be equal"
            )
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.depthwise = stride, depthwise
        shape = (largest_of(out_channels), 1 if depthwise else largest_of(in_channels))
        side = largest_of(kernel_size)
        self.weight = nn.Parameter(torch.empty(*shape, side, side))
        self.bias = nn.Parameter(torch.zeros(shape[0])) if bias else None
        self.decisions = decisions_of(in_channels, out_channels, kernel_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as torch's convolutions do."""
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def parts(self) -> tuple[Part, ...]:
        """None."""
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """[n, in_channels, h, w] -> [n, out_channels, ceil(h / stride), ceil(w / stride)].

        Raises:
            SpaceError: If the tensor has other channels than decided.
        """
        c_in, _ = hard(self.in_channels, "ElasticConv2d")
        c_out, weight = hard(self.out_channels, "ElasticConv2d")
        if x.shape[1] != c_in:
            raise SpaceError(f"ElasticConv2d got {x.shape[1]} channels; its in_channels are decided as {c_in}")
        kernel = self._kernel()[:c_out] if self.depthwise else self._kernel()[:c_out, :c_in]
        bias = None if self.bias is None else self.bias[:c_out]
        if self.depthwise:
            y = depthwise_convolution(x, kernel, stride=self.stride)
            y = y if bias is None else y + bias.reshape(1, -1, 1, 1)
        else:
            y = trainable_conv2d(x, kernel, bias, stride=self.stride, padding=kernel.shape[-1] // 2)
        return _weighed(y, [weight])

    def _kernel(self) -> Tensor:
        value = self.kernel_size
        if not isinstance(value, ValueChoice):
            return centre(self.weight, hard(value, "ElasticConv2d")[0])
        answer = answer_to(value.label)
        if not isinstance(answer, Gate):
            return centre(self.weight, int(answer))
        side = max(value.options[code] for code in answer.support)
        mixed = torch.zeros_like(centre(self.weight, side))
        for code in answer.support:
            margin = (side - value.options[code]) // 2
            mixed = mixed + answer.weight(code) * F.pad(centre(self.weight, value.options[code]), (margin,) * 4)
        return mixed

    def frozen(self, options: Options, memo: Memo) -> nn.Module:  # noqa: ARG002 - the protocol's
        """A plain convolution with its own cut of the weights."""
        c_in, c_out = value_at(self.in_channels, options), value_at(self.out_channels, options)
        side = value_at(self.kernel_size, options)
        groups = c_in if self.depthwise else 1
        conv = nn.Conv2d(
            c_in,
            c_out,
            side,
            self.stride,
            side // 2,
            groups=groups,
            bias=self.bias is not None,
            device=self.weight.device,
        )
        with torch.no_grad():
            conv.weight.copy_(centre(self.weight, side)[:c_out, : c_in // groups])
            if self.bias is not None:
                cast(Tensor, conv.bias).copy_(self.bias[:c_out])
        return conv.train(self.training)


class ElasticBatchNorm2d(nn.Module):
    """Batch norm over the first channels of a wider one.

    Running statistics belong to whichever network ran last; an extracted network has its own estimated afresh.

    Args:
        num_features: The value that decides the channels.
        momentum: Of the running statistics.
        eps: Added to the variance.

    Raises:
        SpaceError: If the momentum is None.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> norm = ElasticBatchNorm2d(ValueChoice((2, 4), label="width"))
        >>> with answering(Architecture({"width": 2})):
        ...     tuple(norm(torch.ones(3, 2, 5, 5)).shape)
        (3, 2, 5, 5)
    """

    def __init__(self, num_features: int | Value, *, momentum: float | None = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        if momentum is None:
            raise SpaceError(
                "ElasticBatchNorm2d: momentum is None, an average over everything, which would mix the networks that "
                "share the norm; expected a number"
            )
        self.num_features = num_features
        self.norm = nn.BatchNorm2d(largest_of(num_features), eps=eps, momentum=momentum)
        self.decisions = decisions_of(num_features)

    @property
    def parts(self) -> tuple[Part, ...]:
        """None."""
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """[n, num_features, h, w] -> the same shape."""
        c, _ = hard(self.num_features, "ElasticBatchNorm2d")
        norm = self.norm
        weight, bias = norm.weight[:c], norm.bias[:c]
        mean, var = cast(Tensor, norm.running_mean)[:c], cast(Tensor, norm.running_var)[:c]
        if self.training and not norm.track_running_stats:
            return F.batch_norm(x, None, None, weight, bias, training=True, momentum=0.0, eps=norm.eps)
        return F.batch_norm(x, mean, var, weight, bias, self.training, norm.momentum or 0.0, norm.eps)

    def frozen(self, options: Options, memo: Memo) -> nn.Module:  # noqa: ARG002 - the protocol's
        """A plain norm with its own cut."""
        c = value_at(self.num_features, options)
        found = nn.BatchNorm2d(c, eps=self.norm.eps, momentum=self.norm.momentum, device=self.norm.weight.device)
        with torch.no_grad():
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(found, name).copy_(getattr(self.norm, name)[:c])
        return found.train(self.training)


class ElasticLinear(nn.Module):
    """A linear layer whose width is decided.

    Args:
        in_features: Or the value that decides them.
        out_features: Or the value that decides them.
        bias: Whether there is one.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> layer = ElasticLinear(4, ValueChoice((8, 16), label="hidden"))
        >>> with answering(Architecture({"hidden": 8})):
        ...     tuple(layer(torch.zeros(2, 4)).shape)
        (2, 8)
    """

    def __init__(self, in_features: int | Value, out_features: int | Value, *, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.linear = nn.Linear(largest_of(in_features), largest_of(out_features), bias=bias)
        self.decisions = decisions_of(in_features, out_features)

    @property
    def parts(self) -> tuple[Part, ...]:
        """None."""
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] -> [..., out_features].

        Raises:
            SpaceError: If the tensor has other features than decided.
        """
        f_in, _ = hard(self.in_features, "ElasticLinear")
        f_out, weight = hard(self.out_features, "ElasticLinear")
        if x.shape[-1] != f_in:
            raise SpaceError(f"ElasticLinear got {x.shape[-1]} features; its in_features are decided as {f_in}")
        bias = None if self.linear.bias is None else self.linear.bias[:f_out]
        return _weighed(F.linear(x, self.linear.weight[:f_out, :f_in], bias), [weight])

    def frozen(self, options: Options, memo: Memo) -> nn.Module:  # noqa: ARG002 - the protocol's
        """A plain layer with its own cut of the weights."""
        f_in, f_out = value_at(self.in_features, options), value_at(self.out_features, options)
        bias = self.linear.bias is not None
        found = nn.Linear(f_in, f_out, bias=bias, device=self.linear.weight.device)
        with torch.no_grad():
            found.weight.copy_(self.linear.weight[:f_out, :f_in])
            if bias:
                found.bias.copy_(self.linear.bias[:f_out])
        return found.train(self.training)


class ElasticLayerNorm(nn.Module):
    """Layer norm over the first features of a wider one.

    Args:
        features: The value that decides them.
        eps: Added to the variance.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> with answering(Architecture({"width": 2})):
        ...     tuple(ElasticLayerNorm(ValueChoice((2, 4), label="width"))(torch.ones(3, 2)).shape)
        (3, 2)
    """

    def __init__(self, features: int | Value, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.features = features
        self.norm = nn.LayerNorm(largest_of(features), eps=eps)
        self.decisions = decisions_of(features)

    @property
    def parts(self) -> tuple[Part, ...]:
        """None."""
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """[..., features] -> the same shape."""
        f, _ = hard(self.features, "ElasticLayerNorm")
        return F.layer_norm(x, (f,), self.norm.weight[:f], self.norm.bias[:f], self.norm.eps)

    def frozen(self, options: Options, memo: Memo) -> nn.Module:  # noqa: ARG002 - the protocol's
        """A plain norm with its own cut."""
        f = value_at(self.features, options)
        found = nn.LayerNorm(f, eps=self.norm.eps, device=self.norm.weight.device)
        with torch.no_grad():
            found.weight.copy_(self.norm.weight[:f])
            found.bias.copy_(self.norm.bias[:f])
        return found.train(self.training)


class ElasticAttention(nn.Module):
    """Self-attention whose number of heads is decided; a head has a fixed width, so fewer heads are cheaper.

    Source: Chen et al. 2021 (arXiv 2107.00651), section 3, with a fixed width of the model.

    Args:
        features: Of each token.
        heads: How many, or the value that decides it.
        head_width: Features of one head.

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> attention = ElasticAttention(8, ValueChoice((1, 2), label="heads"), head_width=4)
        >>> with answering(Architecture({"heads": 1})):
        ...     tuple(attention(torch.zeros(2, 5, 8)).shape)
        (2, 5, 8)
    """

    def __init__(self, features: int, heads: int | Value, *, head_width: int) -> None:
        super().__init__()
        self.features, self.heads, self.head_width = features, heads, head_width
        most = largest_of(heads) * head_width
        self.query, self.key, self.value = (nn.Linear(features, most) for _ in range(3))
        self.out = nn.Linear(most, features)
        self.decisions = decisions_of(heads)

    @property
    def parts(self) -> tuple[Part, ...]:
        """None."""
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [n, t, features] -> the same shape."""
        heads, weight = hard(self.heads, "ElasticAttention")
        kept = heads * self.head_width
        q, k, v = (F.linear(x, layer.weight[:kept], layer.bias[:kept]) for layer in (self.query, self.key, self.value))
        y = F.linear(attend(q, k, v, heads=heads), self.out.weight[:, :kept], self.out.bias)
        return _weighed(y, [weight])

    def frozen(self, options: Options, memo: Memo) -> nn.Module:  # noqa: ARG002 - the protocol's
        """Plain attention with its own cut of the weights."""
        heads = value_at(self.heads, options)
        found = Attention(self.features, heads, head_width=self.head_width).to(self.out.weight.device)
        kept = heads * self.head_width
        with torch.no_grad():
            for name in ("query", "key", "value"):
                mine, its = getattr(self, name), getattr(found, name)
                its.weight.copy_(mine.weight[:kept])
                its.bias.copy_(mine.bias[:kept])
            found.out.weight.copy_(self.out.weight[:, :kept])
            found.out.bias.copy_(self.out.bias)
        return found.train(self.training)


class Attention(nn.Module):
    """Self-attention with a fixed number of heads.

    Example:
        >>> tuple(Attention(8, 2, head_width=4)(torch.zeros(2, 5, 8)).shape)
        (2, 5, 8)
    """

    def __init__(self, features: int, heads: int, *, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query, self.key, self.value = (nn.Linear(features, heads * head_width) for _ in range(3))
        self.out = nn.Linear(heads * head_width, features)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [n, t, features] -> the same shape."""
        return cast(Tensor, self.out(attend(self.query(x), self.key(x), self.value(x), heads=self.heads)))


def attend(query: Tensor, key: Tensor, value: Tensor, *, heads: int) -> Tensor:
    """Scaled dot-product attention of [n, t, heads * width] -> the same shape.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.
    """
    n, t, kept = query.shape
    q, k, v = (part.reshape(n, t, heads, kept // heads).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, kept)


class InvertedBottleneck(nn.Module):
    """MobileNet's block with decided kernel and expansion, both of which may be mixed under soft gates.

    Args:
        c_in: Channels in.
        c_out: Channels out.
        kernels: Ascending odd sides.
        expansions: Ascending ratios of hidden to incoming channels.
        stride: Of the depthwise convolution.
        activation: "relu" or "hswish".
        squeeze: Channels inside squeeze-and-excite, 0 for none.
        label: Starts the labels "label.kernel" and "label.expansion".

    Example:
        >>> from hwnas.core import Architecture
        >>> from hwnas.nn.answering import answering
        >>> block = InvertedBottleneck(8, 8, kernels=(3, 5), expansions=(3, 6), label="b")
        >>> with answering(Architecture({"b.kernel": 3, "b.expansion": 6})):
        ...     tuple(block(torch.zeros(1, 8, 4, 4)).shape)
        (1, 8, 4, 4)
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernels: Sequence[int],
        expansions: Sequence[int],
        stride: int = 1,
        activation: str = "relu",
        squeeze: int = 0,
        label: str,
    ) -> None:
        super().__init__()
        self.kernel = ValueChoice(tuple(kernels), label=f"{label}.kernel")
        self.expansion = ValueChoice(tuple(expansions), label=f"{label}.expansion")
        self.block = ElasticMBConv(
            c_in,
            c_out,
            kernels=self.kernel.options,
            expansions=self.expansion.options,
            stride=stride,
            activation_name=activation,
            squeeze=squeeze,
        )
        self.decisions = decisions_of(self.kernel, self.expansion)

    @property
    def parts(self) -> tuple[Part, ...]:
        """None."""
        return ()

    def forward(self, x: Tensor) -> Tensor:
        """[n, c_in, h, w] -> [n, c_out, ceil(h / stride), ceil(w / stride)]."""
        kernel, expansion = answer_to(self.kernel.label), answer_to(self.expansion.label)
        if isinstance(kernel, Gate) and isinstance(expansion, Gate):
            return self.block.soft(x, kernel=kernel, expansion=expansion)
        return cast(Tensor, self.block(x, kernel=cast(int, kernel), expansion=cast(int, expansion)))

    def frozen(self, options: Options, memo: Memo) -> nn.Module:  # noqa: ARG002 - the protocol's
        """The plain block with its own cut of the weights."""
        block = self.block.cut(kernel=self.kernel.at(options), expansion=self.expansion.at(options))
        return block.train(self.training)
