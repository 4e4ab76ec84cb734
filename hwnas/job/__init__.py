"""The main job from a recipe: profile, search, finish; and what it leaves: a measured front."""

from hwnas.job.assembly import Assembly, assemble, kit, profile, take_in
from hwnas.job.front import Front, Member
from hwnas.job.recipe import Recipe
from hwnas.job.refitting import use_refit
from hwnas.job.search import search
from hwnas.job.teller import Silent, Teller

__all__ = [
    "Assembly",
    "Front",
    "Member",
    "Recipe",
    "Silent",
    "Teller",
    "assemble",
    "kit",
    "profile",
    "search",
    "take_in",
    "use_refit",
]
