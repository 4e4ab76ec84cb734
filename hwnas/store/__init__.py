"""A run's folder: what was asked, what came back, and the newest weights; safe against kill -9 and a full disk."""

from hwnas.store.checkpoints import Checkpoints
from hwnas.store.lock import FolderLock, Holder, holder_of
from hwnas.store.run_folder import RunFolder
from hwnas.store.store import SCHEMA_VERSION, EpochRow, StepRow, Store

__all__ = [
    "SCHEMA_VERSION",
    "Checkpoints",
    "EpochRow",
    "FolderLock",
    "Holder",
    "RunFolder",
    "StepRow",
    "Store",
    "holder_of",
]
