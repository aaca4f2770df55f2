"""Twitter-GMNER and FMNERG: what is written is read back, quirks are mended and counted, broken files are one
sentence.
"""

import shutil
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mcr_lib import data
from mcr_lib.data.bio import chunks
from mcr_lib.data.twitter_gmner import LABELS, read_split, write_split
from mcr_lib.errors import UserError
from mcr_lib.schema import Entity, Example

XML = """<annotation><filename>1.jpg</filename><size><width>100</width><height>80</height></size>
<object><name>Rome</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>
{}</annotation>"""
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
OBJECT = f"<object><name>{{}}</name>{BOX}</object>\n"
TXT = "IMGID:1\nin\tO\nRome\tB-LOC\n"


@pytest.fixture
def folder(tmp_path):
    """A data set of one tweet, as (root, write(name, text or bytes))."""

    def write(name, content):
        path = tmp_path / "Twitter10000_v2.0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    write("txt/test.txt", TXT)
    write("xml/1.xml", XML.format(""))
    return tmp_path, write


def read(root, **kwargs):
    return data.read_split("twitter-gmner", root, split="test", **kwargs)


def test_an_entity_gets_every_box_of_its_name(folder):
    root, write = folder
    write("xml/1.xml", XML.format(OBJECT.format("Rome", 40, 2, 50, 9) + OBJECT.format("Paris", 1, 1, 2, 2)))
    (tweet,), quirks = read(root)
    assert tweet.entities == (Entity("Rome", 1, 2, "LOC", ((1, 2, 30, 40), (40, 2, 50, 9))),)
    assert tweet.image_size_px == (100, 80)
    assert [(q.kind.split(" (")[0], q.where, q.what) for q in quirks] == [
        ("box whose name is no entity of the text", "xml/1.xml", "Paris")
    ]


def test_a_tweet_without_xml_is_annotated_as_not_in_the_image(folder):
    root, _ = folder
    (root / "Twitter10000_v2.0/xml/1.xml").unlink()
    (tweet,), _ = read(root)
    assert (tweet.entities[0].boxes_xyxy_px, tweet.image_size_px) == ((), None)


def test_crlf_a_byte_order_mark_and_a_missing_last_newline_do_not_matter(folder):
    root, write = folder
    plain, _ = read(root)
    write("txt/test.txt", b"\xef\xbb\xbf" + TXT.rstrip("\n").replace("\n", "\r\n").encode())
    assert read(root)[0] == plain


def test_a_line_of_blanks_ends_a_tweet_as_an_empty_one_does(folder):
    root, write = folder
    write("txt/test.txt", TXT + " \t\n" + TXT.replace(":1", ":2"))
    assert [tweet.id for tweet in read(root)[0]] == ["1", "2"]


def test_orphan_tags_begin_an_entity_and_are_told(folder):
    root, write = folder
    write("txt/test.txt", "IMGID:1\nRome\tI-LOC\nParis\tB-PER\nTexas\tI-LOC\n")
    (tweet,), quirks = read(root)
    assert [e.text for e in tweet.entities] == ["Rome", "Paris", "Texas"]
    assert [q.where for q in quirks if q.kind.startswith("I- tag")] == [
        "txt/test.txt, line 2",
        "txt/test.txt, line 4",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("txt/test.txt", "", "test.txt holds no tweet"),
        ("txt/test.txt", "in\tO\n", "line 1: expected IMGID:<id>"),
        ("txt/test.txt", "IMGID:1\nin\n", "line 2: expected 2 columns"),
        ("txt/test.txt", "IMGID:1\nin\tO\tO\n", "line 2: expected 2 columns"),
        ("txt/test.txt", "IMGID:1\nin O\n", "line 2: expected 2 columns .* between tabs, not blanks"),
        ("txt/test.txt", "IMGID:1\nin\tB-MISC\n", "line 2: tag 'B-MISC' .*; MISC is called OTHER here"),
        ("txt/test.txt", "IMGID:1\nin\tX-LOC\n", "line 2: tag 'X-LOC' is not O"),
        ("txt/test.txt", "IMGID:1\nin\tO\nRome\tB-PLACE\n", "line 3: tag 'B-PLACE'"),
        ("txt/test.txt", "IMGID:1\n\nIMGID:2\n", "line 1: tweet 1 has no token"),
        ("txt/test.txt", TXT + "\n" + TXT, "line 5: id 1 is repeated"),
        (
            "txt/test.txt",
            "IMGID:../../etc/passwd\nin\tO\n",
            "line 1: id '../../etc/passwd' cannot be a file name",
        ),
        ("txt/test.txt", b"IMGID:1\ncaf\xe9\tO\n", "not UTF-8"),
        ("xml/1.xml", XML.format("")[:90], r"1.xml, line \d: broken XML"),
        ("xml/1.xml", "", "1.xml, line 1: broken XML"),
        ("xml/1.xml", b"\xff\xfe\x00", "1.xml, line 1: broken XML"),
        ("xml/1.xml", "<html/>", "line 1: expected <annotation>"),
        ("xml/1.xml", "<annotation/>", "<size> with a <width>"),
        (
            "xml/1.xml",
            XML.format(OBJECT.format("A", 9, 1, 3, 5)),
            "line 3: the box of 'A' is empty or upside down",
        ),
        (
            "xml/1.xml",
            XML.format("\n" + OBJECT.format("A", 9, 1, 101.5, 5)),
            "line 4: the box of 'A' leaves the image of 100 x 80",
        ),
        (
            "xml/1.xml",
            XML.format(OBJECT.format("A", -9, 1, 10, 5)),
            "line 3: the box of 'A' is not four numbers",
        ),
        (
            "xml/1.xml",
            XML.format(OBJECT.format("A", "1e9", "NaN", 10, 5)),
            "line 3: the box of 'A' is not four numbers",
        ),
        (
            "xml/1.xml",
            XML.format("<object><name>A</name><polygon><x1>1</x1></polygon></object>"),
            "line 3: the box of 'A' is missing; expected a <bndbox> with xmin, ymin, xmax and ymax$",
        ),
        ("xml/1.xml", XML.format("<object><name> </name></object>"), "line 3: an <object> without a <name>"),
        (
            "xml/1.xml",
            '<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>',
            "declares a DTD or entities",
        ),
        (
            "xml/1.xml",
            '\n<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
            "line 2: declares a DTD or entities",
        ),
        ("xml/1.xml", '<?xml version="1.0" encoding="no-such"?><annotation/>', "line 1: broken XML"),
        (
            "xml/1.xml",
            XML.format(OBJECT.format("A", 9, 1, 3, 5)).encode("utf-16"),
            "the box of 'A' is empty or upside down",
        ),
    ],
)
def test_a_broken_file_is_one_sentence_with_its_place(folder, name, content, message):
    root, write = folder
    write(name, content)
    with pytest.raises(UserError, match=message) as raised:
        read(root)
    assert "\n" not in str(raised.value)


FLOAT = 45.70000076293945
CUT, BLANK = "box that leaves the image by up to a pixel", "name with stray blanks"


@pytest.mark.parametrize(
    ("xml", "box", "kinds"),
    [
        (OBJECT.format("Rome", FLOAT, "4.5e+1", 99.5, "60."), (FLOAT, 45, 99.5, 60), []),
        (OBJECT.format("Rome", -0.4, 2, 101, 80.5), (0, 2, 100, 80), [CUT]),
        (OBJECT.format(" Rome\n", 1, 2, 3, 4), (1, 2, 3, 4), [BLANK]),
        (OBJECT.format("Rome", " 1 ", "2\n", 3, 4), (1, 2, 3, 4), []),
    ],
)
def test_boxes_and_names_of_other_tools_are_read_and_what_is_mended_is_told(folder, xml, box, kinds):
    root, write = folder
    write("xml/1.xml", XML.replace("Rome", "Paris").format(xml))
    (tweet,), quirks = read(root)
    assert tweet.entities[0].boxes_xyxy_px == (box,)
    assert [q.kind.split(" (")[0] for q in quirks[1:]] == kinds


@pytest.mark.parametrize("name", ["New  York", "New\n\t\tYork", " New York "])
def test_blanks_in_a_row_within_a_name_do_not_cost_its_box(folder, name):
    root, write = folder
    write("txt/test.txt", "IMGID:1\nNew\tB-LOC\nYork\tI-LOC\n")
    write("xml/1.xml", XML.replace("Rome", name).format(""))
    (tweet,), quirks = read(root)
    assert tweet.entities[0].boxes_xyxy_px == ((1, 2, 30, 40),)
    assert [q.kind.split(" (")[0] for q in quirks] == [BLANK]


def test_a_namespace_changes_nothing(folder):
    root, write = folder
    before = read(root)
    write("xml/1.xml", XML.format("").replace("<annotation>", '<annotation xmlns="http://example.org/voc">'))
    assert read(root) == before


@pytest.mark.parametrize(
    "size", ["<width>0</width><height>0</height>", "", "<width/>", "<width>400.5</width><height>9</height>"]
)
def test_a_missing_size_is_that_of_the_image_and_without_one_all_such_files_are_named(folder, size):
    root, write = folder
    xml = XML.format("").replace("<width>100</width><height>80</height>", size)
    write("xml/1.xml", xml)
    write("xml/2.xml", xml)
    write("txt/test.txt", TXT + "\n" + TXT.replace(":1", ":2"))
    sizes = "xml, line 1: <size> .* is missing, and so is the image that would tell"
    with pytest.raises(UserError, match=rf"1.{sizes}; there are faults in 2 tweets: 1, 2"):
        read(root)
    Image.new("RGB", (70, 50)).save(root / "2.png")
    with pytest.raises(UserError, match=rf"1.{sizes}$"):
        read(root)
    Image.new("RGB", (60, 50)).save(root / "1.webp")
    found, quirks = read(root)
    assert [tweet.image_size_px for tweet in found] == [(60, 50), (70, 50)]
    assert sum(q.kind.startswith("xml without an image size") for q in quirks) == 2


def test_faults_of_every_line_tweet_and_split_are_told_together(folder):
    root, write = folder
    write("txt/train.txt", "IMGID:3\nA O\nB\nC\tO\n")
    write("txt/dev.txt", "IMGID:4\nA\tB-MISC\n\nIMGID:5\nA\tX\n")
    write("xml/1.xml", "<annotation")
    columns = r"train.txt, line 2: expected 2 columns .*; columns stand between tabs, .*; so in all 2 lines"
    tags = r"dev.txt, line 2: tag 'B-MISC' .*; MISC is called OTHER here; there are faults in 2 tweets: 4, 5"
    with pytest.raises(UserError, match=rf"{columns}; and .*{tags}; and .*1.xml, line 1: broken XML"):
        data.of_each(data.SPLITS, lambda split: read_split(root, split=split))


def test_v1_keeps_names_as_they_are_written_for_its_published_counts(folder):
    root, write = folder
    write("xml/1.xml", XML.replace("Rome", "Paris").format(OBJECT.format(" Rome", 1, 2, 3, 4)))
    (root / "Twitter10000_v2.0").rename(root / "Twitter10000")
    assert read(root, version="v1")[0][0].entities[0].boxes_xyxy_px == ()


def test_an_entity_bomb_is_refused_at_once(folder):
    root, write = folder
    bomb = (
        "<!DOCTYPE b [<!ENTITY a0 'ha'>"
        + "".join(f"<!ENTITY a{k} '{f'&a{k - 1};' * 10}'>" for k in range(1, 30))
        + "]><b>&a29;</b>"
    )
    write("xml/1.xml", bomb)
    with pytest.raises(UserError, match="declares a DTD"):
        read(root)


def test_missing_folders_splits_and_names_are_told_with_what_is_there(folder):
    root, _ = folder
    with pytest.raises(UserError, match=r"split 'dev' of twitter-gmner v2: .* does not exist; found test"):
        data.read_split("twitter-gmner", root, split="dev")
    with pytest.raises(UserError, match=r"holds no folder Twitter10000 \(version v1\); found v2"):
        read(root, version="v1")
    with pytest.raises(UserError, match="no version 'v3'; choose one of v2, v1"):
        read(root, version="v3")
    with pytest.raises(UserError, match="unknown source 'twitter'"):
        data.read_split("twitter", root, split="test")


def test_the_versions_own_folder_is_taken_as_root_too(folder):
    root, _ = folder
    assert read(root / "Twitter10000_v2.0") == read(root)


words = st.text(
    st.characters(blacklist_categories=("Z", "C"), blacklist_characters="\t\n\r"), min_size=1, max_size=6
).filter(lambda w: not w.startswith("IMGID:") and w.split() == [w])


@st.composite
def tweets(draw):
    tokens = tuple(draw(st.lists(words, min_size=1, max_size=8)))
    cuts = sorted(draw(st.sets(st.integers(0, len(tokens)), max_size=4)))
    size = draw(st.tuples(st.integers(20, 999), st.integers(20, 999)))
    boxes_of, entities = {}, []
    for start, end in zip(cuts, cuts[1:], strict=False):
        text = " ".join(tokens[start:end])
        box = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(10, 20), st.integers(10, 20)))
        boxes_of.setdefault(text, draw(st.sampled_from([(), (box,), (box, (1, 1, 2, 2))])))
        entities.append(Entity(text, start, end, draw(st.sampled_from(LABELS)), boxes_of[text]))
    has_box = any(e.boxes_xyxy_px for e in entities)
    return Example(
        "x",
        "twitter-gmner-v2",
        "dev",
        tokens,
        tuple(entities),
        LABELS,
        image_size_px=size if has_box else None,
    )


@given(st.lists(tweets(), min_size=1, max_size=3))
def test_what_is_written_is_read_back(tmp_path_factory, found):
    examples = [replace(example, id=f"{k}_{k}") for k, example in enumerate(found)]
    root = tmp_path_factory.mktemp("data")
    (root / "Twitter10000_v2.0" / "xml").mkdir(parents=True)
    write_split(root, "dev", examples)
    assert read_split(root, split="dev")[0] == examples
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "../x"}, "cannot be a file name"),
        ({"tokens": ("in", "New York"), "entities": ()}, "white space"),
        ({"entities": (Entity("Rome", 1, 2, "LOC", None),)}, "no annotated groundability"),
        ({"image_size_px": None}, "without an image size"),
        (
            {
                "tokens": ("Rome", "Rome"),
                "entities": (Entity("Rome", 0, 1, "LOC", ()), Entity("Rome", 1, 2, "LOC", ((1, 1, 2, 2),))),
            },
            "two mentions",
        ),
    ],
)
def test_what_the_files_cannot_say_is_refused_before_anything_is_written(tmp_path, change, message):
    tweet = Example(
        "1",
        "s",
        "dev",
        ("in", "Rome"),
        (Entity("Rome", 1, 2, "LOC", ((1, 1, 2, 2),)),),
        LABELS,
        image_size_px=(9, 9),
    )
    with pytest.raises(ValueError, match=message):
        write_split(tmp_path, "dev", [replace(tweet, **change)])
    assert not list(tmp_path.iterdir())


def test_bio_chunks_follow_the_tags():
    tags = ["B-PER", "B-PER", "I-PER", "I-LOC", "O", "I-ORG", "I-ORG"]
    assert [(c.start, c.end, c.label, c.is_repaired) for c in chunks(tags, LABELS)] == [
        (0, 1, "PER", False),
        (1, 3, "PER", False),
        (3, 4, "LOC", True),
        (5, 7, "ORG", True),
    ]


def test_the_real_v1_has_the_quirks_that_its_readers_know(read_real):
    kinds = Counter()
    for split in data.SPLITS:
        kinds.update(q.kind.split(" (")[0] for q in read_real("twitter-gmner", split, "v1")[1])
    assert kinds["I- tag without a B- before it"] == 8
    assert kinds["box whose name is no entity of the text"] == 60


def test_every_fine_type_of_the_real_fmnerg_maps_into_the_type_of_its_entity(real):
    for split in data.SPLITS:
        for a, b in zip(real(split, "twitter-fmnerg"), real(split), strict=True):
            assert [(e.span, data.COARSE_OF[e.type], e.boxes_xyxy_px) for e in a.entities] == [
                (e.span, e.type, e.boxes_xyxy_px) for e in b.entities
            ]
