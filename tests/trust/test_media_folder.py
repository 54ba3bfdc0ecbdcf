"""A page shows files of the media folder only, whatever a foreign list of items says."""

import base64
import os
from pathlib import Path

import pytest
from conftest import load_example, make_bundle

from cart_fairseq.base.files import inside
from cart_fairseq.catalogue.identifiers import write_bundle
from cart_fairseq.catalogue.positions import Position
from preprocess.inspection.media import MediaShelf
from preprocess.inspection.page import inspect_identifiers
from preprocess.inspection.settings import InspectionSettings

SECRET = b"SECRET of somebody"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """data/media with a picture and a link to it; secrets beside data, and links to them."""
    data = tmp_path / "data"
    (data / "media" / "deep").mkdir(parents=True)
    (tmp_path / "data2").mkdir()
    for path in (tmp_path / "secret.png", tmp_path / "data2" / "secret.png", tmp_path / "secret"):
        path.write_bytes(SECRET)
    (data / "media" / "good.png").write_bytes(b"GOOD")
    (data / "media" / "deep" / "good.png").write_bytes(b"GOOD")
    (data / "media" / "same.png").symlink_to("good.png")
    (data / "media" / "link.png").symlink_to(tmp_path / "secret.png")
    (data / "media" / "other.png").symlink_to("../../secret")
    (data / "out").symlink_to(tmp_path)
    return data


GOOD = ["media/good.png", "media/same.png", "media/deep/../good.png", "./media//deep/good.png"]
OUTSIDE = ["../secret.png", "media/../../secret.png", "../data2/secret.png", "media/link.png", "media/other.png"]
OUTSIDE += ["out/secret.png", "out/data2/secret.png", "media/good.png/../../../secret.png", "", ".", "media/\0.png"]


def test_a_file_is_of_a_folder_or_not(data: Path, tmp_path: Path):
    for name in GOOD:
        found = inside(data, name)
        assert found is not None
        assert found.read_bytes() == b"GOOD"
    for name in (*OUTSIDE, str(tmp_path / "secret.png"), str(data / "media" / "good.png")):
        assert inside(data, name) is None, name
    (tmp_path / "linked").symlink_to(data)
    assert inside(tmp_path / "linked", GOOD[0]) == data.resolve() / GOOD[0]  # the folder itself is the user's word
    assert inside(tmp_path, "../secret.png", data) == tmp_path.resolve() / "secret.png"
    assert inside(data / "media", "../secret.png", data) is None


def test_the_shelf_shows_nothing_from_elsewhere(data: Path, tmp_path: Path):
    shelf = MediaShelf(data, 1 << 20, 1 << 20)
    for name in (*OUTSIDE, str(tmp_path / "secret.png")):
        assert "outside of the media folder" in shelf.show({"media": name}, "secret")
    assert (shelf.embedded, shelf.left_out) == (0, len(OUTSIDE) + 1)
    assert "<img" in shelf.show({"media": GOOD[0]}, "good")
    assert "<img" in MediaShelf(data, 1 << 20, 1 << 20, tmp_path).show({"media": "../secret.png"}, "mine")


def test_a_report_holds_no_file_from_elsewhere(data: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    bundle = make_bundle(tmp_path / "identifiers", splits=False)
    names = [*OUTSIDE[:8], str(tmp_path / "secret.png"), GOOD[0]]
    items = [{"item_id": f"{row}", "media": names[row % len(names)]} for row in range(len(bundle))]
    positions = [Position(each.name, each.size) for each in bundle.positions]
    write_bundle(tmp_path / "evil", bundle.values, positions, items, bundle.report, {}, {})
    inspect_identifiers(tmp_path / "evil", tmp_path / "report.html", InspectionSettings(media=data))
    report = (tmp_path / "report.html").read_text()
    assert base64.b64encode(SECRET).decode() not in report
    assert base64.b64encode(b"GOOD").decode() in report
    with pytest.raises(ValueError, match="no such folder; --media-within"):
        inspect_identifiers(
            tmp_path / "evil", tmp_path / "x.html", InspectionSettings(media=data, media_within=tmp_path / "nowhere")
        )


@pytest.mark.parametrize("name", OUTSIDE[:8])
def test_the_demo_s_page_refuses_media_from_elsewhere(data: Path, name: str):
    page = load_example("demo", "page")
    with pytest.raises(ValueError, match=rf"media of item 'x' is .*outside of {data}"):
        page.media_file(data, {"item_id": "x", "media": name})
    assert page.media_file(data, {"item_id": "x", "media": GOOD[0]}) == data.resolve() / GOOD[0]


def test_links_that_lead_in_circles_are_no_files(data: Path):
    os.symlink("b", data / "a")
    os.symlink("a", data / "b")
    assert "not found" in MediaShelf(data, 1, 1).show({"media": "a/x.png"}, "")
