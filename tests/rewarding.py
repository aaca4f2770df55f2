"""What the tests of both sets of rewards share: two tweets, predictions, and random worlds."""

from hypothesis import strategies as st

from mcr_lib import rewards as r
from mcr_lib.answer import ParsedAnswer
from mcr_lib.schema import Entity, Example, PredictedEntity

LABELS = ("PER", "LOC", "ORG", "OTHER")
A, HALF, FAR = (0, 0, 10, 10), (0, 0, 10, 6), (50, 50, 60, 60)  # IoU(A, HALF) = 0.6
TWEET = Example(
    "1", "demo", "train", ("Ada", "Byron", "in", "Rome"),
    (Entity("Ada Byron", 0, 2, "PER", (A,)), Entity("Rome", 3, 4, "LOC", ())), LABELS,
    image_size_px=(100, 100),
)  # fmt: skip
NOBODY = Example("2", "demo", "train", ("rain",), (), LABELS)


def pred(text, *boxes, type="PER"):
    return PredictedEntity(text, type, boxes)


ADA, ROME = pred("Ada Byron", A), pred("Rome", type="LOC")


def five(answer, gold=TWEET, **how):
    """R_c, R_s, R_t, R_u, R_e."""
    result = r.rewards(ParsedAnswer(tuple(answer)), gold, **how)
    return (result.count, result.span, result.type, result.grounding, result.entailment)


TOKENS = ("Ada", "Byron", "in", "Rome", "and", "Ada", "in", "Texas")  # some words twice


@st.composite
def worlds(draw):
    cuts = sorted(draw(st.sets(st.integers(0, len(TOKENS)), max_size=5)))
    spans = [span for span in zip(cuts, cuts[1:], strict=False) if draw(st.booleans())]
    some = st.sampled_from([(), (A,), (HALF,), (FAR,), (A, FAR)])
    gold = tuple(
        Entity(" ".join(TOKENS[a:b]), a, b, draw(st.sampled_from(LABELS)), draw(some)) for a, b in spans
    )
    pieces = [
        " ".join(TOKENS[a:b]) for a in range(len(TOKENS)) for b in range(a + 1, min(a + 4, len(TOKENS) + 1))
    ]
    names = st.sampled_from([*pieces, "Eve"])
    answer = draw(
        st.lists(
            st.builds(PredictedEntity, names, st.sampled_from(LABELS), some.map(lambda b: b[:1])), max_size=5
        )
    )
    return Example("1", "d", "train", TOKENS, gold, LABELS, image_size_px=(100, 100)), answer
