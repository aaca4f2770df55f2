"""Shares that describe a data set whatever its size: how close is the testbed to Twitter-GMNER v2?"""

from collections import Counter
from collections.abc import Mapping, Sequence

from mcr_lib.schema import Example

MOST = 5  # tweets with this many entities or more are counted together
V2_SHARES = {  # `shares` of the 10,000 tweets of Twitter-GMNER v2, counted in the public release
    "entities: PER": 0.4290, "entities: LOC": 0.1627, "entities: ORG": 0.2545, "entities: OTHER": 0.1538,
    "groundable: PER": 0.6498, "groundable: LOC": 0.0916, "groundable: ORG": 0.2704,
    "groundable: OTHER": 0.2678, "groundable": 0.4036, "groundable with several boxes": 0.0900,
    "tweets with 0 entities": 0.0527, "tweets with 1 entity": 0.4274, "tweets with 2 entities": 0.3533,
    "tweets with 3 entities": 0.1316, "tweets with 4 entities": 0.0280,
    "tweets with 5 or more entities": 0.0070,
    "tweets that show nothing they name": 0.4388, "tweets that show some and lack some": 0.2937,
    "tweets that do so within one type": 0.1008, "tweets that name something twice": 0.0096,
}  # fmt: skip


def shares(examples: Sequence[Example], *, coarse_of: Mapping[str, str] | None = None) -> dict[str, float]:
    """Return shares in [0, 1] by the names of `V2_SHARES`, plus that of pictures with bait where it is known.

    `coarse_of` is type -> the type it is counted as; other types count as themselves.
    """
    coarse = {label: (coarse_of or {}).get(label, label) for e in examples[:1] for label in e.labels}
    entities = [entity for example in examples for entity in example.entities]
    shown = [entity for entity in entities if entity.is_groundable]
    n_of, n_shown_of = (Counter(coarse[e.type] for e in group) for group in (entities, shown))
    labels = dict.fromkeys(coarse.values())
    result = {f"entities: {label}": _share(n_of[label], len(entities)) for label in labels}
    result |= {f"groundable: {label}": _share(n_shown_of[label], n_of[label]) for label in labels}
    n_several = sum(len(entity.boxes_xyxy_px) > 1 for entity in shown)
    result["groundable"] = _share(len(shown), len(entities))
    result["groundable with several boxes"] = _share(n_several, len(shown))
    sizes = Counter(min(MOST, len(example.entities)) for example in examples)
    for k in range(MOST + 1):
        name = f"{k}{' or more' * (k == MOST)} {'entity' if k == 1 else 'entities'}"
        result[f"tweets with {name}"] = _share(sizes[k], len(examples))
    kinds = []  # of each tweet: types with a box, types without one, whether something is named twice
    for example in examples:
        present = {coarse[e.type] for e in example.entities if e.is_groundable}
        absent = {coarse[e.type] for e in example.entities if not e.is_groundable}
        kinds.append((present, absent, len({e.text for e in example.entities}) < len(example.entities)))
    counts = {
        "show nothing they name": sum(not present for present, _, _ in kinds),
        "show some and lack some": sum(bool(present and absent) for present, absent, _ in kinds),
        "do so within one type": sum(bool(present & absent) for present, absent, _ in kinds),
        "name something twice": sum(is_repeated for _, _, is_repeated in kinds),
    }
    result |= {f"tweets that {name}": _share(n, len(examples)) for name, n in counts.items()}
    if examples and all(example.image_only is not None for example in examples):
        result["pictures with bait"] = _share(sum(bool(e.image_only) for e in examples), len(examples))
    return result


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
