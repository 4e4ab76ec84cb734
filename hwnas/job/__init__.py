"""The main job from a recipe: profile, search, finish; and what it leaves: a measured front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.core.lazy import loaded_when_used

if TYPE_CHECKING:
    from hwnas.job.assembly import Assembly, assemble, kit, profile, take_in
    from hwnas.job.comparison import Standing, compare, joint_front, names_of, values_of
    from hwnas.job.front import Front, Member
    from hwnas.job.main_job import search
    from hwnas.job.member_file import EARLIER, Recorded, check_member_file, describe_file, examined
    from hwnas.job.recipe import Recipe
    from hwnas.job.refitting import use_refit
    from hwnas.job.so_far import SoFar
    from hwnas.job.tabular import TabularFront, TabularRecipe, is_tabular, search_table
    from hwnas.job.teller import Silent, Teller

_PLACES = {
    "EARLIER": "hwnas.job.member_file",
    "Assembly": "hwnas.job.assembly",
    "Front": "hwnas.job.front",
    "Member": "hwnas.job.front",
    "Recipe": "hwnas.job.recipe",
    "Recorded": "hwnas.job.member_file",
    "Silent": "hwnas.job.teller",
    "SoFar": "hwnas.job.so_far",
    "Standing": "hwnas.job.comparison",
    "TabularFront": "hwnas.job.tabular",
    "TabularRecipe": "hwnas.job.tabular",
    "Teller": "hwnas.job.teller",
    "assemble": "hwnas.job.assembly",
    "check_member_file": "hwnas.job.member_file",
    "compare": "hwnas.job.comparison",
    "describe_file": "hwnas.job.member_file",
    "examined": "hwnas.job.member_file",
    "is_tabular": "hwnas.job.tabular",
    "joint_front": "hwnas.job.comparison",
    "kit": "hwnas.job.assembly",
    "names_of": "hwnas.job.comparison",
    "profile": "hwnas.job.assembly",
    "search": "hwnas.job.main_job",
    "search_table": "hwnas.job.tabular",
    "take_in": "hwnas.job.assembly",
    "use_refit": "hwnas.job.refitting",
    "values_of": "hwnas.job.comparison",
}

__all__ = [
    "EARLIER",
    "Assembly",
    "Front",
    "Member",
    "Recipe",
    "Recorded",
    "Silent",
    "SoFar",
    "Standing",
    "TabularFront",
    "TabularRecipe",
    "Teller",
    "assemble",
    "check_member_file",
    "compare",
    "describe_file",
    "examined",
    "is_tabular",
    "joint_front",
    "kit",
    "names_of",
    "profile",
    "search",
    "search_table",
    "take_in",
    "use_refit",
    "values_of",
]

__getattr__ = loaded_when_used(__name__, _PLACES)
