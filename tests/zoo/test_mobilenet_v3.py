import numpy as np
import pytest
import torch

from hwnas.core import Architecture, SpaceError
from hwnas.nn import Gate, one_hot_gates
from hwnas.zoo import FAMILIES, MobileNetV3, family

NAMES = sorted(name for name, base in FAMILIES.items() if isinstance(base, MobileNetV3))


def chain(name: str) -> MobileNetV3:
    base = FAMILIES[name]
    assert isinstance(base, MobileNetV3)
    return base


@pytest.mark.parametrize("name", NAMES)
def test_hard_soft_and_extracted_networks_agree(name: str) -> None:
    torch.manual_seed(0)
    space, net = chain(name).space, chain(name).supernet().eval()
    for a in space.sample(6, np.random.default_rng(1)):
        x = torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))
        plain = net.extract(a)
        assert torch.allclose(net(x, a), plain(x), atol=1e-5)
        assert torch.allclose(net(x, one_hot_gates(space, a)), plain(x), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_extracted_network_is_its_entries_and_nothing_else(name: str) -> None:
    space, net = chain(name).space, chain(name).supernet()
    for a in space.sample(4, np.random.default_rng(2)):
        plain = net.extract(a)
        blocks = space.blocks_of(a)
        assert len(plain) == len(blocks)
        assert sum(p.numel() for p in plain.parameters()) == sum(b.parameters for b in blocks)
        x = torch.randn(1, 1, int(a["resolution"]), int(a["resolution"]))
        for part, block in zip(plain, blocks, strict=True):
            assert x.shape[1:] == block.input_shape
            x = part.eval()(x)
            assert x.shape[1:] == block.output_shape
        plain.train()(torch.randn(2, 1, int(a["resolution"]), int(a["resolution"]))).sum().backward()
        assert all(p.grad is not None for p in plain.parameters()), "every parameter must be used"


def test_weights_that_do_not_run_get_no_gradient() -> None:
    toy = chain("toy")
    net = toy.supernet()
    shallow = next(a for a in toy.space.enumerate() if a["stage1.depth"] == 1 and a["resolution"] == 32)
    net(torch.randn(2, 1, 32, 32), shallow).sum().backward()
    idle = [p.grad for p in net.stages[0][1].parameters()]  # type: ignore[index]
    assert idle and all(grad is None for grad in idle)


def test_soft_depth_is_the_mixture_of_depths() -> None:
    torch.manual_seed(0)
    toy = chain("toy")
    net = toy.supernet().eval()
    deep = next(a for a in toy.space.enumerate() if a["stage2.depth"] == 2)
    side = int(deep["resolution"])
    x = torch.randn(2, 1, side, side)
    gates = one_hot_gates(toy.space, deep)
    outputs: list[torch.Tensor] = []
    net.head.register_forward_hook(lambda part, inputs, output: outputs.append(inputs[0]))
    for values, support in (([1.0, 0.0], (0,)), ([0.0, 1.0], (1,)), ([0.25, 0.75], (0, 1))):
        net(x, {**gates, "stage2.depth": Gate(torch.tensor(values), support)})
    shallow, full, mixed = outputs
    assert torch.allclose(mixed, 0.25 * shallow + 0.75 * full, atol=1e-5)


def test_the_main_space_is_as_large_as_promised() -> None:
    assert chain("mobilenet_v3").space.size > 10**9
    assert chain("mobilenet_v3").space.size == 3 * (9**2 + 9**3 + 9**4) ** 3
    assert chain("toy").space.size == 2 * (4 + 16) ** 2


def test_the_default_is_a_network_of_the_space() -> None:
    for base in FAMILIES.values():
        assert base.space.contains(base.default())


def test_images_of_another_size_are_refused() -> None:
    net = chain("toy").supernet()
    a = chain("toy").default()
    with pytest.raises(SpaceError, match=r"images of \(32, 32\) for a network of resolution 48"):
        net(torch.randn(1, 1, 32, 32), a)
    gates = {**one_hot_gates(net.space, a), "resolution": Gate(torch.ones(2) / 2, (0, 1))}
    with pytest.raises(SpaceError, match="supports 2 options"):
        net(torch.randn(1, 1, 48, 48), gates)
    with pytest.raises(SpaceError, match="is active but not given"):
        net.extract(Architecture({"resolution": 32}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"kernal": [3]}, r'unknown key "kernal" = \[3\]; did you mean "kernels"'),
        ({"kernels": [3, "five"]}, r"kernels.1 is 'five'; input should be a valid integer"),
        ({"activations": ["relu", "swosh"]}, r'activation "swosh" is unknown'),
        ({"kernels": [3, 4]}, "kernels holds 4"),
        ({"depths": [2, 1]}, r"depths is \[2, 1\]; expected ascending"),
        ({"widths": [8]}, "strides has 2 entries, widths has 1"),
        ({"stem_width": 0}, "stem_width is 0"),
    ],
)
def test_wrong_entries_are_named(overrides: dict[str, object], message: str) -> None:
    """Case O-06."""
    with pytest.raises(SpaceError, match=message):
        family("toy", overrides, channels=1, classes=3)


def test_unknown_families_are_named() -> None:
    with pytest.raises(SpaceError, match=r'"mobilenet_v4" ?; did you mean "mobilenet_v3"'):
        family("mobilenet_v4", {}, channels=1, classes=3)


def test_overrides_reach_the_space() -> None:
    small = family("toy", {"kernels": [3], "resolutions": [24]}, channels=3, classes=7)
    assert small.name.startswith("toy-")
    assert small == MobileNetV3(
        small.name,
        channels=3,
        classes=7,
        resolutions=(24,),
        kernels=(3,),
        expansions=(3, 6),
        depths=(1, 2),
        stem_width=8,
        stem_stride=2,
        widths=(8, 16),
        strides=(2, 2),
        se=(False, True),
        activations=("relu", "hswish"),
        head_width=32,
    )
    assert small.space.size == (2 + 4) ** 2


def test_spaces_with_other_blocks_have_other_names() -> None:
    names = [
        family("toy", overrides, channels=channels, classes=3).name
        for overrides, channels in (({}, 1), ({}, 3), ({"kernels": [3]}, 1), ({"kernels": [3, 5]}, 1))
    ]
    assert len(set(names)) == 3
    assert names[0] == names[3]
