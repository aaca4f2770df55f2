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
    """Return shares by the names of `V2_SHARES`, and of bait if known; `coarse_of`: type -> counted as."""
    coarse = {label: (coarse_of or {}).get(label, label) for e in examples[:1] for label in e.labels}
    entities = [entity for example in examples for entity in example.entities]
    shown = [entity for entity in entities if entity.is_groundable]
    n_of, n_shown_of = (Counter(coarse[e.type] for e in group) for group in (entities, shown))
    labels = dict.fromkeys(coarse.values())
    result = {f"entities: {label}": _share(n_of[label], len(entities)) for label in labels}
    result |= {f"groundable: {label}": _share(n_shown_of[label], n_of[label]) for label in labels}
    result["groundable"] = _share(len(shown), len(entities))
    result["groundable with several boxes"] = _share(sum(len(e.boxes_xyxy_px) > 1 for e in shown), len(shown))
    sizes = Counter(min(MOST, len(example.entities)) for example in examples)
    for k in range(MOST + 1):
        name = f"{k}{' or more' * (k == MOST)} {'entity' if k == 1 else 'entities'}"
        result[f"tweets with {name}"] = _share(sizes[k], len(examples))
    present = [{coarse[e.type] for e in x.entities if e.is_groundable} for x in examples]  # types with a box
    absent = [{coarse[e.type] for e in x.entities if not e.is_groundable} for x in examples]
    both = list(zip(present, absent, strict=True))
    counts = {
        "show nothing they name": sum(not types for types in present),
        "show some and lack some": sum(bool(with_box and without) for with_box, without in both),
        "do so within one type": sum(bool(with_box & without) for with_box, without in both),
        "name something twice": sum(len({e.text for e in x.entities}) < len(x.entities) for x in examples),
    }
    result |= {f"tweets that {name}": _share(n, len(examples)) for name, n in counts.items()}
    if examples and all(example.image_only is not None for example in examples):
        result["pictures with bait"] = _share(sum(bool(e.image_only) for e in examples), len(examples))
    return result


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
