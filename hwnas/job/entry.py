"""The main job as Python sees it: any recipe, by its path."""

from __future__ import annotations

from pathlib import Path

from hwnas.job.front import Front
from hwnas.job.main_job import search as search_images
from hwnas.job.tabular import TabularFront, is_tabular, search_table
from hwnas.job.teller import Teller


def search(
    recipe: Path | str,
    *,
    root: Path | str = "",
    fresh: bool = False,
    allow_mismatch: bool = False,
    teller: Teller | None = None,
) -> Front | TabularFront:
    """Run a recipe to its front, or go on where it was cut off.

    Args:
        recipe: A file in search/.
        root: The workspace: the folder that holds devices/, latency_tables/ and runs/; the current one unless given.
        fresh: Throw away what the run's folder holds.
        allow_mismatch: Search with a latency table of other conditions; see `hwnas.job.main_job.search`.
        teller: Told of progress.

    Returns:
        The measured front of networks that were trained and exported. Of a recipe with `[benchmark]` the front of the
        published table: the same `objectives`, `on_front` and `pick`, and no files, as nothing is trained.

    Raises:
        HwnasError: Of the kinds that `hwnas.core.errors` lists, with the way out.

    Example:
        `hwnas.search("search/quickstart.toml").pick("knee")`, after `hwnas profile search/quickstart.toml`.
    """
    recipe, root = Path(recipe), Path(root)
    if is_tabular(recipe):
        return search_table(recipe, root=root, fresh=fresh, teller=teller)
    return search_images(recipe, root=root, fresh=fresh, allow_mismatch=allow_mismatch, teller=teller)
