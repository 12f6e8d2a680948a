"""What the demo's tiny models can say: themes of words, and the grammar they share.

Plain data. A theme decides which model is heard; `tiny_model` turns it into weights.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """The words of one model, by their part in a sentence."""

    name: str
    subjects: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    objects: tuple[str, ...]


def _theme(name: str, *, subjects: str, verbs: str, adjectives: str, objects: str) -> Theme:
    return Theme(
        name,
        tuple(subjects.split()),
        tuple(verbs.split()),
        tuple(adjectives.split()),
        tuple(objects.split()),
    )


SEA = _theme(
    "sea",
    subjects=(
        "gull whale sailor captain crab dolphin pilot turtle octopus pelican shark seal "
        "mermaid pirate lobster heron diver fisherman helmsman navigator"
    ),
    verbs=(
        "follows crosses finds watches hears forgets charts carries leaves rounds chases "
        "reaches guards salutes remembers steers trusts loses meets circles"
    ),
    adjectives=(
        "grey salty deep calm restless distant silver drowned windy northern foggy blue "
        "narrow endless sunken quiet stormy tidal green old"
    ),
    objects=(
        "tide harbour wave storm reef anchor lighthouse lagoon current shore island sail "
        "wreck horizon channel buoy compass pier net coral"
    ),
)

KITCHEN = _theme(
    "kitchen",
    subjects=(
        "cook baker chef guest waiter grandmother butcher gardener brewer taster neighbour "
        "apprentice confectioner cat miller grocer critic pastrycook sommelier dishwasher"
    ),
    verbs=(
        "stirs tastes peels bakes chops seasons serves burns folds kneads simmers whisks "
        "pours roasts grates slices butters boils shares spills"
    ),
    adjectives=(
        "warm crisp sweet bitter golden ripe buttery smoky fresh spicy sour tender toasted "
        "creamy peppery sticky fragrant raw hot crumbly"
    ),
    objects=(
        "soup bread onion garlic pepper dumpling custard broth pancake tomato butter lemon "
        "noodle pie sauce cinnamon mushroom potato omelette kettle"
    ),
)

THEMES = {theme.name: theme for theme in (SEA, KITCHEN)}

#: Capitalised; each begins a sentence.
OPENERS = ("The", "Every", "No", "One", "This", "That")
DETERMINERS = ("the", "another", "every", "some", "this", "that")
PREPOSITIONS = ("near", "behind", "under", "beyond", "beside", "without", "after", "before")
#: Roles of a ChatML prompt, so that it costs few tokens.
CHAT_WORDS = ("user", "assistant", "system")
