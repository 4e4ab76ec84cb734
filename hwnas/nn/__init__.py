"""Networks with choices in them: gates, elastic layers, plain blocks, extraction, batch-norm re-estimation, ONNX."""

from hwnas.nn.batch_norm import reestimate_batch_norm
from hwnas.nn.blocks import MBConv, build_block, build_network
from hwnas.nn.elastic import ElasticMBConv
from hwnas.nn.expected_cost import ExpectedCost, excess
from hwnas.nn.gates import Gate, Gates, one_hot_gates
from hwnas.nn.supernet import Supernet
from hwnas.nn.to_onnx import write_onnx
from hwnas.nn.to_pt2 import write_pt2
from hwnas.nn.weights_file import load_network, save_network

__all__ = [
    "ElasticMBConv",
    "ExpectedCost",
    "Gate",
    "Gates",
    "MBConv",
    "Supernet",
    "build_block",
    "build_network",
    "excess",
    "load_network",
    "one_hot_gates",
    "reestimate_batch_norm",
    "save_network",
    "write_onnx",
    "write_pt2",
]
