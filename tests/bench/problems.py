"""The published tables that searches are judged on: those that strategies were developed on, and those held out.

On a development table anything may be tried, and every figure of it is to be read so. A held-out table is run once
after the settings are frozen; `save` keeps the values of each earlier run beside the new ones, so that a second try
shows. A table that is looked at while something is changed moves from the second list to the first.
"""

from __future__ import annotations

from hwnas.evaluation.benchmarks import Task

DATASETS_DEVELOPED_ON = ("cifar10", "cifar100", "imagenet16_120")
"""Of NAS-Bench-201, for its best network: the kernel, its priors and the rule for long tails were found on them."""

DEVICES_DEVELOPED_ON = ("raspi4", "pixel3", "gold_6226", "1080ti_b1", "eyeriss", "fpga", "pi5_onnx")
"""Latency columns of NAS-Bench-201 that searches were tried on."""

DEVICES_HELD_OUT = ("titan_rtx_b32", "silver_4114", "samsung_a50", "pi5_litert", "pixel_litert")
"""Latency columns that no search had seen: a card, a server, a phone of other makers, and two devices under LiteRT."""

TASKS_HELD_OUT: tuple[Task, ...] = (
    "class_object",
    "class_scene",
    "jigsaw",
    "segmentsemantic",
    "autoencoder",
    "normal",
    "room_layout",
)
"""Of TransNAS-Bench-101's cells."""

OTHERS_DEVELOPED_ON = ("mbv3_45", "toy201", "nasbench201 with 12 epochs", "pi5 with energy")
"""Problems that population sizes, eta and the strategies' defaults were chosen on."""

OTHERS_HELD_OUT = ("nas_bench_macro", "accel_nasbench")
"""Read by hwnas, and searched by no bench yet."""

HELD_OUT_PARTS = (
    *(f"nasbench201_latency_{device}" for device in DEVICES_HELD_OUT),
    *(f"transnasbench101_{task}" for task in TASKS_HELD_OUT),
)
"""Parts of `python -m tests.bench search` on them."""
