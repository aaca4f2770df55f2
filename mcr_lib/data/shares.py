"""What a data set is like, in shares that do not depend on its size: how near is the testbed to Twitter-GMNER
v2?
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from mcr_lib.schema import Example

MOST = 5
"""Tweets with this many entities or more are counted together."""

V2_SHARES = {
    "entities: PER": 0.4290, "entities: LOC": 0.1627, "entities: ORG": 0.2545, "entities: OTHER": 0.1538,
    "groundable: PER": 0.6498, "groundable: LOC": 0.0916, "groundable: ORG": 0.2704, "groundable: OTHER": 0.2678, "groundable": 0.4036,
    "groundable with several boxes": 0.0900,
    "tweets with 0 entities": 0.0527, "tweets with 1 entity": 0.4274, "tweets with 2 entities": 0.3533, "tweets with 3 entities": 0.1316,
    "tweets with 4 entities": 0.0280, "tweets with 5 or more entities": 0.0070,
    "tweets that show nothing they name": 0.4388, "tweets that show some and lack some": 0.2937,
    "tweets that do so within one type": 0.1008, "tweets that name something twice": 0.0096,
}  # fmt: skip
"""`shares` of the 10,000 tweets of Twitter-GMNER v2, counted in the public release."""


def shares(examples: Sequence[Example], *, coarse_of: Mapping[str, str] | None = None) -> dict[str, float]:
    """Shares in [0, 1] by the names of `V2_SHARES`, and, where bait is known, the share of pictures that hold
    some.

    Args:
        coarse_of: type -> the type under which it is counted; types that it lacks count as themselves.

    Example:
        >>> tweet = Example("1", "demo", "dev", ("hi",), (), ("PER",))
        >>> {name: share for name, share in shares([tweet]).items() if share}
        {'tweets with 0 entities': 1.0, 'tweets that show nothing they name': 1.0}
    """
    coarse = {
        label: (coarse_of or {}).get(label, label) for label in (examples[0].labels if examples else ())
    }
    labels = dict.fromkeys(coarse.values())
    entities = [entity for example in examples for entity in example.entities]
    n_of, n_shown_of = (
        Counter(coarse[e.type] for e in entities),
        Counter(coarse[e.type] for e in entities if e.is_groundable),
    )
    n_groundable, n = n_shown_of.total(), len(examples)
    found = {f"entities: {label}": _share(n_of[label], len(entities)) for label in labels}
    found |= {f"groundable: {label}": _share(n_shown_of[label], n_of[label]) for label in labels}
    found["groundable"] = _share(n_groundable, len(entities))
    found["groundable with several boxes"] = _share(
        sum(len(e.boxes_xyxy_px or ()) > 1 for e in entities), n_groundable
    )
    counts = Counter(min(MOST, len(example.entities)) for example in examples)
    for k in range(MOST + 1):
        found[f"tweets with {k}{' or more' * (k == MOST)} {'entity' if k == 1 else 'entities'}"] = _share(
            counts[k], n
        )
    shown, lacked = (
        [{coarse[e.type] for e in x.entities if bool(e.is_groundable) is truth} for x in examples]
        for truth in (True, False)
    )
    found["tweets that show nothing they name"] = _share(sum(not types for types in shown), n)
    found["tweets that show some and lack some"] = _share(
        sum(bool(a and b) for a, b in zip(shown, lacked, strict=True)), n
    )
    found["tweets that do so within one type"] = _share(
        sum(bool(a & b) for a, b in zip(shown, lacked, strict=True)), n
    )
    found["tweets that name something twice"] = _share(
        sum(len({e.text for e in x.entities}) < len(x.entities) for x in examples), n
    )
    if examples and all(example.image_only is not None for example in examples):
        found["pictures with bait"] = _share(sum(bool(example.image_only) for example in examples), n)
    return found


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
