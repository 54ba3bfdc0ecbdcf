"""preprocess.annotations: malformed files are refused where they are wrong, missing media are reported."""

import re
from pathlib import Path

import pytest
from annotation_samples import (
    make_samples,
    write_audiocaps,
    write_clotho,
    write_flickr30k,
    write_mscoco,
    write_msrvtt,
    write_msvd,
)

from cart_fairseq.base.reading import read_jsonl
from preprocess.annotations import audiocaps, clotho, karpathy, msrvtt, msvd
from preprocess.annotations.build import WrittenAnnotations, read_annotations
from preprocess.annotations.media import MediaFolder
from preprocess.annotations.settings import AnnotationSettings

FLICKR, DEVELOPMENT = "dataset_flickr30k.json", "clotho_captions_development.csv"
DATA, NINE, TEST = "MSRVTT_data.json", "MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv"
TEXT = "AllVideoDescriptions.txt"


def read(reader: str, folder: Path):
    """Read the miniature files of a format in a folder."""
    if reader == "karpathy":
        return karpathy.read(folder / "dataset_flickr30k.json")
    if reader == "clotho":
        return clotho.read({split: folder / f"clotho_captions_{name}.csv" for split, name in clotho.FOLDERS.items()})
    if reader == "audiocaps":
        return audiocaps.read({"train": folder / "train.csv", "valid": folder / "val.csv", "test": folder / "test.csv"})
    if reader == "msrvtt":
        return msrvtt.read(folder / DATA, folder / NINE, folder / TEST, valid_size=1)
    lists = {split: folder / f"{split}_list.txt" for split in ("train", "test")}
    return msvd.read(folder / "AllVideoDescriptions.txt", lists)


WRITERS = {
    "karpathy": write_flickr30k,
    "clotho": write_clotho,
    "audiocaps": write_audiocaps,
    "msrvtt": write_msrvtt,
    "msvd": write_msvd,
}
MALFORMED = [
    ("karpathy", FLICKR, '"images"', '"pictures"', ": must be an object with an array 'images', but there is none"),
    ("karpathy", FLICKR, '{"images": [', '{"images": [7, ', ", row 1 of images: found 7, must be an object"),
    ("karpathy", FLICKR, '"dataset": ', '"dataset" ', ", row 1: not valid JSON (Expecting ':' delimiter at column "),
    (
        "karpathy",
        FLICKR,
        '"val"',
        '"dev"',
        ", row 4 of images: split is 'dev', must be one of train, restval, val, test",
    ),
    (
        "karpathy",
        FLICKR,
        "1000092802.jpg",
        "1000092795.jpg",
        ", row 2 of images: filename '1000092795.jpg' is the same",
    ),
    ("karpathy", FLICKR, "1000092802.jpg", "../x.jpg", ", row 2 of images: filename is '../x.jpg', must name a file"),
    ("karpathy", FLICKR, "1000092802.jpg", r"a\tb.jpg", ", row 2 of images: filename 'a\\tb.jpg' holds a tab"),
    (
        "karpathy",
        FLICKR,
        '"filename": "1000092802.jpg"',
        '"filename": 7',
        ", row 2 of images: filename is 7; it must be",
    ),
    ("karpathy", FLICKR, '"raw": "Thing 1, seen for the 2. time"', '"raw": " "', "raw of sentence 2 is ' ', must be a"),
    ("karpathy", FLICKR, "Thing 1, seen for the 2. time", r"\ud83d", ", row 2 of images: holds half a surrogate pair"),
    ("karpathy", FLICKR, '"sentences": [{', '"sentences": [], "more": [{', ", row 1 of images: sentences is []"),
    ("clotho", DEVELOPMENT, "caption_5", "caption_6", ", row 1: no column 'caption_5', found 'file_name,caption_1"),
    ("clotho", DEVELOPMENT, "night 1", "night 0", ", row 3: file_name 'Street, night 0.wav' is the same as in"),
    (
        "clotho",
        DEVELOPMENT,
        '"Thing 2, seen for the 3. time"',
        "Thing 2, seen",
        ", row 4: 7 fields, but 6 columns; quote",
    ),
    ("clotho", DEVELOPMENT, '"Thing 2, seen for the 3. time"', "", ", row 4: caption_3 is '', must be a caption"),
    ("clotho", DEVELOPMENT, '1. time","Thing 2', '1. time,"Thing 2', ", row 4: broken csv ("),
    ("clotho", DEVELOPMENT, '5. time"\n', "5. time\n", ", row 2: broken csv ("),
    ("clotho", DEVELOPMENT, "Thing 1, seen for the 1.", "Th\xef\xbf", ", row 3: invalid UTF-8 (byte 0xef)"),
    (
        "audiocaps",
        "val.csv",
        "-abcdefgh04,70",
        "-abcdefgh00,30",
        ", row 2: the clip '-abcdefgh00_30' is the same as in",
    ),
    ("audiocaps", "val.csv", "91051", "91050", ", row 5: audiocap_id '91050' is the same as in"),
    ("audiocaps", "val.csv", "91051", "91000", ", row 5: audiocap_id '91000' is the same as in"),
    ("audiocaps", "train.csv", ",40,", ",4 0,", ", row 3: start_time is '4 0', must be whole seconds"),
    ("audiocaps", "test.csv", "-abcdefgh06", "", ", row 2: youtube_id is ''; it must not be empty"),
    ("msrvtt", NINE, "video1\n", "video0\n", ", row 3: video_id 'video0' is the same as in"),
    ("msrvtt", NINE, "video1\n", "video6\n", "JSFUSION_test.csv, row 2: video_id 'video6' is the same as in"),
    ("msrvtt", NINE, "video1\n", "video99\n", ", row 3: video_id 'video99' has no sentence in "),
    ("msrvtt", TEST, ",", ";", ", row 1: no column 'video_id', found 'key;vid_key;video_id;sentence'"),
    ("msrvtt", TEST, '"Thing 7, seen for the 1. time"', "", ", row 3: sentence is '', must be a caption"),
    ("msrvtt", DATA, '"sentences"', '"captions"', ": must be an object with an array 'sentences', but there is none"),
    ("msrvtt", DATA, '"Thing 0, seen for the 2. time"', "null", ", row 2 of sentences: caption is missing, must be a"),
    ("msvd", "train_list.txt", "h01_5_16", "h00_5_15", ", row 2: video '-abcdefgh00_5_15' is the same as in"),
    ("msvd", "train_list.txt", "h01_5_16", "h06_5_21", "test_list.txt, row 1: video '-abcdefgh06_5_21' is the same"),
    ("msvd", "train_list.txt", "-abcdefgh01", "other", ", row 2: video 'other_5_16' has no caption in "),
    ("msvd", TEXT, " Thing 0, seen for the 2. time", "", ", row 5: the description is '', must be a caption"),
]


@pytest.mark.parametrize(("reader", "file", "old", "new", "message"), MALFORMED)
def test_a_malformed_file_is_refused_where_it_is_wrong(tmp_path, reader, file, old, new, message):
    WRITERS[reader](tmp_path, make_samples(train=4 if reader != "karpathy" else 3))
    read(reader, tmp_path)
    content = (tmp_path / file).read_bytes()
    assert old.encode() in content
    (tmp_path / file).write_bytes(content.replace(old.encode(), new.encode("latin-1")))
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        read(reader, tmp_path)
    assert re.match(rf"{re.escape(str(tmp_path))}/\w", str(refused.value))


@pytest.mark.parametrize(("reader", "file"), [("clotho", DEVELOPMENT), ("msrvtt", NINE), ("msvd", "train_list.txt")])
def test_a_file_without_rows_is_refused(tmp_path, reader, file):
    WRITERS[reader](tmp_path, make_samples())
    first = (tmp_path / file).read_text().splitlines()[0]
    (tmp_path / file).write_text(f"{first}\n\n" if reader != "msvd" else "\n")
    with pytest.raises(ValueError, match=rf"{re.escape(file)}: no (rows|names)"):
        read(reader, tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    write_audiocaps(tmp_path, make_samples())
    before = read("audiocaps", tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read("audiocaps", tmp_path) == before


def test_rows_are_lines_where_a_caption_has_line_breaks(tmp_path):
    write_audiocaps(tmp_path, make_samples())
    text = (tmp_path / "val.csv").read_text().replace("Thing 4, seen", "Thing 4,\n\nseen").replace(",80,", ",x,")
    (tmp_path / "val.csv").write_text(text)
    with pytest.raises(ValueError, match=r"val\.csv, row 5: start_time is 'x'"):
        read("audiocaps", tmp_path)


def test_no_pickle_is_opened(tmp_path):
    write_msvd(tmp_path, make_samples())
    (tmp_path / "raw-captions.pkl").write_bytes(b"cbuiltins\nexit\n(tR.")
    with pytest.raises(ValueError, match=r"raw-captions\.pkl: is a pickle, which can run code"):
        msvd.read(tmp_path / "raw-captions.pkl", {"train": tmp_path / "train_list.txt"})


@pytest.mark.parametrize("content", ["[]", '{"-abcdefgh00_5_15": "a text"}', '{"-abcdefgh00_5_15": ["a text", ""]}'])
def test_a_malformed_json_of_msvd_is_refused(tmp_path, content):
    write_msvd(tmp_path, make_samples())
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ValueError, match=r"c\.json.*(must be an object|must be an array|caption 2 is '', must be)"):
        msvd.read(tmp_path / "c.json", {"train": tmp_path / "train_list.txt"})


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def read_flickr(tmp_path: Path, missing_media: str = "skip") -> WrittenAnnotations:
    files, settings = {"annotations": tmp_path / FLICKR}, AnnotationSettings(missing_media=missing_media)
    return read_annotations("karpathy", files, tmp_path / "out", settings, media=tmp_path / "media")


def test_missing_media_are_listed_and_left_out(tmp_path, capsys):
    media = write_flickr30k(tmp_path, make_samples())
    touch(tmp_path / "media", *media[1:-1])
    written = read_flickr(tmp_path)
    items = read_jsonl(tmp_path / "out" / "items.jsonl")
    assert [item["item_id"] for item in items] == media[1:-1]
    assert {caption["item_id"] for caption in read_jsonl(tmp_path / "out" / "captions.jsonl")} == set(media[1:-1])
    listed = [line.split("\t") for line in (tmp_path / "out" / "missing.txt").read_text().splitlines()]
    assert listed == [["train", media[0], media[0]], ["test", media[-1], media[-1]]]
    assert "2 of 8 media files are missing, their items are left out" in capsys.readouterr().err
    assert written.missing == (media[0], media[-1])
    rows = [line.split()[:4] for line in written.summary.splitlines()[1:4]]
    assert rows == [["train", "3", "15", "1"], ["valid", "2", "10", "0"], ["test", "1", "5", "1"]]


def test_missing_media_are_kept_where_they_belong(tmp_path, capsys):
    media = write_flickr30k(tmp_path, make_samples())
    touch(tmp_path / "media", *media[1:])
    read_flickr(tmp_path, "keep")
    items = read_jsonl(tmp_path / "out" / "items.jsonl")
    assert [item["media"] for item in items] == [f"../media/{name}" for name in media]
    assert (tmp_path / "out" / "missing.txt").read_text() == f"train\t{media[0]}\t{media[0]}\n"
    assert "1 of 8 media files are missing, their items are kept" in capsys.readouterr().err


def test_missing_media_may_be_refused(tmp_path):
    media = write_flickr30k(tmp_path, make_samples())
    touch(tmp_path / "media", *media[1:])
    with pytest.raises(ValueError, match=rf"media: 1 of 8 media files are missing, for instance '{media[0]}'"):
        read_flickr(tmp_path, "fail")
    assert not (tmp_path / "out").exists()


def test_a_wrong_media_folder_is_refused(tmp_path):
    write_flickr30k(tmp_path, make_samples())
    with pytest.raises(ValueError, match="media: no such folder; check --media"):
        read_flickr(tmp_path)
    touch(tmp_path / "media", "something-else.jpg")
    with pytest.raises(ValueError, match=r"8 of 8 media files are missing.*check --media"):
        read_flickr(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "-abcdefgh00_30.wav",
        "train/-abcdefgh00_30.flac",
        "waveforms/Y-abcdefgh00.wav",
        "-abcdefgh00_30.000_40.000.wav",
        "-abcdefgh00.mp3",
        "train/91002.wav",
    ],
)
def test_audiocaps_files_are_found_under_the_names_that_people_give_them(tmp_path, name):
    write_audiocaps(tmp_path, make_samples())
    touch(tmp_path / "media", name, "-abcdefgh01_40.wav", "notes.txt")
    first, second = read("audiocaps", tmp_path).entries[:2]
    folder = MediaFolder(tmp_path / "media")
    assert folder.find(first) == name
    assert folder.find(second) == "-abcdefgh01_40.wav"


@pytest.mark.parametrize(
    "name",
    ["val2014/{0}", "images/val2014/{0}", "{0}", "val2017/{1}.jpg"],
)
def test_coco_files_are_found_in_the_folders_of_2014_and_2017_or_in_one(tmp_path, name):
    media = write_mscoco(tmp_path, make_samples())
    coco_name = Path(media[-1]).name
    path = name.format(coco_name, Path(coco_name).stem.rpartition("_")[2])
    touch(tmp_path / "media", path)
    entry = karpathy.read(tmp_path / "dataset_coco.json").entries[-1]
    assert MediaFolder(tmp_path / "media").find(entry) == path


def test_links_to_folders_are_followed_and_dead_links_are_no_files(tmp_path):
    media = write_flickr30k(tmp_path, make_samples())
    touch(tmp_path / "elsewhere", *media[1:])
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "media")
    (tmp_path / "media" / media[0]).symlink_to(tmp_path / "gone.jpg")
    folder = MediaFolder(tmp_path / "media")
    found = [folder.find(entry) for entry in read("karpathy", tmp_path).entries]
    assert found == [None, *(f"images/{name}" for name in media[1:])]


def test_a_name_that_two_files_have_is_refused_unless_one_lies_exactly_there(tmp_path):
    media = write_flickr30k(tmp_path, make_samples())
    entry = read("karpathy", tmp_path).entries[0]
    touch(tmp_path / "media", f"a/{media[0]}", f"b/{media[0]}")
    with pytest.raises(
        ValueError, match=rf"both match the file of item '{media[0]}'; give the folder of one of them as --media"
    ):
        MediaFolder(tmp_path / "media").find(entry)
    touch(tmp_path / "media", media[0])
    assert MediaFolder(tmp_path / "media").find(entry) == media[0]


def test_a_file_of_two_items_is_refused(tmp_path):
    write_clotho(tmp_path, make_samples())
    path = tmp_path / "clotho_captions_evaluation.csv"
    path.write_text(path.read_text().replace("night 6", "night 0"))
    touch(tmp_path / "media", "Street, night 0.wav")
    folder = MediaFolder(tmp_path / "media")
    entries = {entry.item_id: entry for entry in read("clotho", tmp_path).entries}
    assert folder.find(entries["development/Street, night 0.wav"]) == "Street, night 0.wav"
    with pytest.raises(ValueError, match=r"matches the files of two items, 'development/.*' and 'evaluation/"):
        folder.find(entries["evaluation/Street, night 0.wav"])
