"""Values that every other room speaks in: architectures, objectives, evaluations, budgets, errors, seeds."""

from hwnas.core.answers import SHARES, TIE_ERRORS, Answers, Chance, Gap, share_error
from hwnas.core.architecture import Architecture, Option
from hwnas.core.budget import Budget, Score
from hwnas.core.counting import counted
from hwnas.core.errors import (
    BudgetSpent,
    CostError,
    DataError,
    DeviceError,
    ExportError,
    HwnasError,
    LimitError,
    MeasureError,
    NoFeasibleError,
    NonFiniteLossError,
    PickError,
    RecipeError,
    ReplayError,
    SpaceError,
    StoreError,
    TableError,
)
from hwnas.core.evaluation import Evaluation, Metric, Origin, Status
from hwnas.core.files import check_writable, refusal, write_atomically
from hwnas.core.names import check_name
from hwnas.core.objective import Limit, Objective
from hwnas.core.seeding import digest_of, generator, seed_of
from hwnas.core.toml_file import LARGEST_WHOLE, check_whole, parse_toml, read_text

__all__ = [
    "LARGEST_WHOLE",
    "SHARES",
    "TIE_ERRORS",
    "Answers",
    "Architecture",
    "Budget",
    "BudgetSpent",
    "Chance",
    "CostError",
    "DataError",
    "DeviceError",
    "Evaluation",
    "ExportError",
    "Gap",
    "HwnasError",
    "Limit",
    "LimitError",
    "MeasureError",
    "Metric",
    "NoFeasibleError",
    "NonFiniteLossError",
    "Objective",
    "Option",
    "Origin",
    "PickError",
    "RecipeError",
    "ReplayError",
    "Score",
    "SpaceError",
    "Status",
    "StoreError",
    "TableError",
    "check_name",
    "check_whole",
    "check_writable",
    "counted",
    "digest_of",
    "generator",
    "parse_toml",
    "read_text",
    "refusal",
    "seed_of",
    "share_error",
    "write_atomically",
]
