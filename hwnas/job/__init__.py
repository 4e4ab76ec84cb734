"""The main job from a recipe: profile, search, finish; and what it leaves: a measured front."""

from hwnas.job.assembly import Assembly, assemble, kit, profile, take_in
from hwnas.job.comparison import Standing, compare, joint_front, values_of
from hwnas.job.front import Front, Member
from hwnas.job.member_file import check_member_file
from hwnas.job.recipe import Recipe
from hwnas.job.refitting import use_refit
from hwnas.job.search import search
from hwnas.job.so_far import SoFar
from hwnas.job.tabular import TabularFront, TabularRecipe, is_tabular, search_table
from hwnas.job.teller import Silent, Teller

__all__ = [
    "Assembly",
    "Front",
    "Member",
    "Recipe",
    "Silent",
    "SoFar",
    "Standing",
    "TabularFront",
    "TabularRecipe",
    "Teller",
    "assemble",
    "check_member_file",
    "compare",
    "is_tabular",
    "joint_front",
    "kit",
    "profile",
    "search",
    "search_table",
    "take_in",
    "use_refit",
    "values_of",
]
