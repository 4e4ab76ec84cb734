"""Networks with choices in them: gates, elastic layers, plain blocks, extraction, batch-norm re-estimation, ONNX."""

from hwnas.nn.batch_norm import reestimate_batch_norm
from hwnas.nn.blocks import MBConv, build_block, build_network
from hwnas.nn.choices import Block, Cell, InputChoice, LayerChoice, Repeat
from hwnas.nn.elastic import ElasticMBConv
from hwnas.nn.elastic_layers import (
    ElasticAttention,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLayerNorm,
    ElasticLinear,
    InvertedBottleneck,
)
from hwnas.nn.evaluation_mode import check_evaluation
from hwnas.nn.expected_cost import ExpectedCost, excess
from hwnas.nn.gates import Gate, Gates, one_hot_gates
from hwnas.nn.model_space import ModelSpace
from hwnas.nn.priced_space import PricedSpace, redraw, with_units
from hwnas.nn.relaxation import (
    ArchitectureParameters,
    BinaryGate,
    Concrete,
    GateMaker,
    HardSample,
    Samples,
    Softmax,
    STConcrete,
    TwoPath,
    UniformOneHot,
    annealed,
    fair_sequence,
    rescale_pairs,
    sandwich_sequence,
)
from hwnas.nn.supernet import Section, Sectioned, Supernet
from hwnas.nn.to_onnx import write_onnx
from hwnas.nn.to_pt2 import write_pt2
from hwnas.nn.values import ValueChoice
from hwnas.nn.weights_file import is_chain, load_network, save_network

__all__ = [
    "ArchitectureParameters",
    "BinaryGate",
    "Block",
    "Cell",
    "Concrete",
    "ElasticAttention",
    "ElasticBatchNorm2d",
    "ElasticConv2d",
    "ElasticLayerNorm",
    "ElasticLinear",
    "ElasticMBConv",
    "ExpectedCost",
    "Gate",
    "GateMaker",
    "Gates",
    "HardSample",
    "InputChoice",
    "InvertedBottleneck",
    "LayerChoice",
    "MBConv",
    "ModelSpace",
    "PricedSpace",
    "Repeat",
    "STConcrete",
    "Samples",
    "Section",
    "Sectioned",
    "Softmax",
    "Supernet",
    "TwoPath",
    "UniformOneHot",
    "ValueChoice",
    "annealed",
    "build_block",
    "build_network",
    "check_evaluation",
    "excess",
    "fair_sequence",
    "is_chain",
    "load_network",
    "one_hot_gates",
    "redraw",
    "reestimate_batch_norm",
    "rescale_pairs",
    "sandwich_sequence",
    "save_network",
    "with_units",
    "write_onnx",
    "write_pt2",
]
