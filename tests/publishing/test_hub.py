"""Models on the Hugging Face Hub, against a stand-in of its HTTP API: uploaded, found again, cached, refused."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import hub_server
import numpy as np
import pytest
from changing import build, embed, make_codec, new_items
from conftest import ITEMS
from documented import fences
from fastapi.testclient import TestClient
from hub_server import TOKEN, Hub

from cart_fairseq import CartRetriever, ExampleRetriever, serve
from cart_fairseq.base.processes import run_script
from cart_fairseq.catalogue.data_bin import DataBin
from cart_fairseq.publishing.exporting import export
from cart_fairseq.publishing.renewing import store_search_files
from cart_fairseq.serving.service import Service
from cart_fairseq.serving.settings import ServingSettings
from cart_fairseq.serving.web.application import create_app
from preprocess.api import add, compact, remove, verify
from preprocess.data_bin.build import binarize

constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub (extra [hub])")

OLD = Path(__file__).resolve().parents[1] / "compatibility"
REPOSITORY = OLD.parents[1]
NAME = "someone/dogs"
TEXTS = ["a red dog on the beach", "the GREEN tree"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub, an empty cache and an account's token."""
    with hub_server.serving() as made:
        for name, value in settings(made, tmp_path).items():
            monkeypatch.setenv(name, value)
        # the library reads them when it is imported
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{made.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.chdir(tmp_path)
        yield made


def settings(hub: Hub, folder: Path) -> dict[str, str]:
    """The environment of a process that uses a Hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",  # the stand-in takes LFS objects
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def opened(path: str | Path, data: Path | None = None, **options: Any) -> CartRetriever:
    return CartRetriever.from_pretrained(path, data, device="cpu", precision="float32", **options)


def hits(retriever: CartRetriever) -> Any:
    return retriever.search(TEXTS, k=20)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A MODEL folder with files beside it that are nobody's business."""
    shutil.copytree(OLD / "model", tmp_path / "MODEL")
    (tmp_path / "MODEL" / "notes.txt").write_text("secret")
    (tmp_path / "MODEL" / "identifiers" / "update.lock").write_text("")
    return tmp_path / "MODEL"


def test_a_model_folder_travels(hub: Hub, model: Path):
    (model / "README.md").write_text("---\nlicense: mit\n---\nmine\n")
    url = opened(model).push_to_hub(NAME, private=True, commit_message="dogs of the beach")
    repository = hub.repositories[NAME]
    assert url == f"{hub.url}/{NAME}/commit/{repository.branches['main']}"
    assert repository.private
    assert repository.messages == ["initial commit", "dogs of the beach"]
    expected = {str(path.relative_to(model)): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    del expected["notes.txt"], expected["identifiers/update.lock"]
    assert hub.files(NAME) == {**expected, ".gitattributes": hub_server.GITATTRIBUTES}
    found = opened(NAME)
    assert found.data.root.parent.name == "snapshots"
    assert any(path.is_symlink() for path in found.data.root.rglob("*"))
    assert hits(found) == hits(opened(OLD / "model"))
    assert verify(found.data.root).kind == "model"


def test_a_checkpoint_is_exported_first_and_the_card_on_the_hub_stays(hub: Hub, tmp_path: Path):
    retriever = opened(OLD / "dense.pt", OLD / "dense" / "data-bin")
    retriever.push_to_hub(NAME)
    export(OLD / "dense.pt", OLD / "dense" / "data-bin", tmp_path / "MODEL")
    assert hub.files(NAME)["model.safetensors"] == (tmp_path / "MODEL" / "model.safetensors").read_bytes()
    assert hub.files(NAME)["README.md"] == (tmp_path / "MODEL" / "README.md").read_bytes()
    assert not [name for name in hub.files(NAME) if "query-id" in name or name.endswith(".pt")]
    assert hits(opened(NAME)) == hits(retriever)
    filled = {**hub.files(NAME), "README.md": b"licence: filled in on the page"}
    hub.repositories[NAME].commit("main", filled, "card")
    retriever.push_to_hub(NAME)
    assert hub.files(NAME)["README.md"] == b"licence: filled in on the page"


def test_a_second_upload_removes_what_is_no_longer_part_of_the_model(hub: Hub, tmp_path: Path):
    export(OLD / "dense.pt", OLD / "dense" / "data-bin", tmp_path / "MODEL")
    retriever = opened(tmp_path / "MODEL")
    retriever.push_to_hub(NAME)
    repository = hub.repositories[NAME]
    stale = {"search/0123/vectors.npy": b"old", "identifiers/removed.000009.npy": b"old", "model.2.safetensors": b"old"}
    theirs = {"LICENSE": b"mine", "plots/a.png": b"mine"}
    repository.commit("main", {**hub.files(NAME), **stale, **theirs}, "of the page")
    before = set(hub.files(NAME))
    remove(tmp_path / "MODEL", ["item 3"])
    with pytest.raises(ValueError, match="MODEL: has changed since it was opened; open it again, then push"):
        retriever.push_to_hub(NAME)
    again = opened(tmp_path / "MODEL")
    again.push_to_hub(NAME)
    gone = before - set(hub.files(NAME))
    assert gone >= set(stale)
    assert all(name.startswith("search/priors.") for name in gone - set(stale))  # of the state before
    assert {"LICENSE", "plots/a.png", "README.md", ".gitattributes"} <= set(hub.files(NAME))
    assert hits(opened(NAME)) == hits(again)
    with hub_requests(hub) as asked:
        again.push_to_hub(NAME)
    assert not [each for each in asked if each.startswith("PUT")]  # nothing has changed
    assert len(repository.messages) == 4


class hub_requests:
    """The requests that a Hub gets in a block."""

    def __init__(self, hub: Hub):
        self.hub, self.asked = hub, []  # type: tuple[Hub, list[str]]

    def __enter__(self) -> list[str]:
        self.before = len(self.hub.requests)
        return self.asked

    def __exit__(self, *_: object) -> None:
        self.asked += self.hub.requests[self.before :]


def test_the_example_of_the_guide_runs(hub: Hub, model: Path):
    [example] = [each for each in fences(REPOSITORY / "docs" / "models.md", "python") if "push_to_hub" in each]
    found: dict[str, Any] = {}
    exec(example, found)
    assert hub.repositories["owner/name"].private
    assert hits(found["retriever"]) == hits(CartRetriever.from_pretrained(model))


def test_revisions_are_branches_and_commits(hub: Hub, model: Path):
    opened(model).push_to_hub(NAME)
    first = hub.repositories[NAME].branches["main"]
    dense = opened(OLD / "dense.pt", OLD / "dense" / "data-bin")
    dense.push_to_hub(NAME, revision="larger")
    assert hub.repositories[NAME].branches["main"] == first
    assert hits(opened(NAME, revision="larger")) == hits(dense)
    assert hits(opened(NAME, revision=first)) == hits(opened(NAME)) == hits(opened(model))
    with pytest.raises(
        ValueError, match=f"^{NAME}: the Hub has no revision 'v9' of it; give a branch, a tag or a commit$"
    ):
        opened(NAME, revision="v9")
    with pytest.raises(ValueError, match="is a path on this machine, where there are no revisions"):
        opened(model, revision="main")
    with pytest.raises(ValueError, match="revision is 'main', but a checkpoint with its data-bin is not on the Hub"):
        opened(OLD / "dense.pt", OLD / "dense" / "data-bin", revision="main")


def test_the_cache_answers_offline(hub: Hub, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened(model).push_to_hub(NAME)
    expected = hits(opened(NAME, cache_dir=tmp_path / "mine"))
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub_requests(hub) as asked:
        assert hits(opened(NAME, cache_dir=tmp_path / "mine")) == expected
        with pytest.raises(ValueError, match=r"HF_HUB_OFFLINE is set\), and its cache does not hold all") as error:
            opened(NAME)
    assert asked == []
    assert "\n" not in str(error.value)


def test_a_download_that_broke_off_is_no_model_and_goes_on_later(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch
):
    opened(model).push_to_hub(NAME)
    hub.lost = {"model.safetensors"}
    with pytest.raises(ValueError, match=f"^{NAME}: ") as error:
        opened(NAME)
    assert "\n" not in str(error.value)
    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ValueError, match="its cache does not hold all of it"):
            opened(NAME)
    hub.lost = set()
    assert hits(opened(NAME)) == hits(opened(model))


def test_a_local_folder_of_the_name_wins(hub: Hub, model: Path, tmp_path: Path):
    opened(model).push_to_hub(NAME)
    (tmp_path / "someone").mkdir()
    export(OLD / "dense.pt", OLD / "dense" / "data-bin", tmp_path / NAME)
    with hub_requests(hub) as asked:
        assert hits(opened(NAME)) == hits(opened(OLD / "dense.pt", OLD / "dense" / "data-bin"))
    assert asked == []
    shutil.rmtree(tmp_path / NAME)
    (tmp_path / NAME).mkdir()
    with hub_requests(hub) as asked, pytest.raises(ValueError, match="so this is no MODEL folder"):
        opened(NAME)
    assert asked == []


def test_what_is_not_there_is_said_in_one_line(hub: Hub, model: Path):
    with pytest.raises(ValueError, match=r"^someone/cats: no such folder here, and the Hub has no such model") as error:
        opened("someone/cats")
    assert "\n" not in str(error.value)
    opened(model).push_to_hub(NAME, private=True)
    with pytest.raises(ValueError, match="or does not show it to you"):
        opened(NAME, token=False)
    hub.repositories[NAME].private, hub.repositories[NAME].gated = False, True
    with pytest.raises(ValueError, match="its owner gives access on request"):
        opened(NAME, token=False)
    other = hub.create("someone/bert")
    other.commit("main", {"config.json": b"{}", "pytorch_model.bin": b"x"}, "weights")
    with (
        hub_requests(hub) as asked,
        pytest.raises(ValueError, match=r"revision main of it on the Hub has no config.json and"),
    ):
        opened("someone/bert")
    assert not [each for each in asked if "pytorch_model" in each]


def test_uploads_that_the_hub_refuses(hub: Hub, model: Path):
    retriever = opened(model)
    with pytest.raises(ValueError, match=f"^{NAME}: the Hub does not take the upload .*Invalid username") as error:
        retriever.push_to_hub(NAME, token=False)
    assert "\n" not in str(error.value)
    assert NAME not in hub.repositories
    hub.create(NAME)
    with pytest.raises(ValueError, match=f"^{NAME}: is public, but private=True was asked for"):
        retriever.push_to_hub(NAME, private=True)
    assert set(hub.files(NAME)) == {".gitattributes"}
    (model / "README.md").write_text("---\nlicense: 5\n---\n")
    with pytest.raises(ValueError, match=f'^{NAME}: the Hub does not take the upload .*"license" must be') as error:
        retriever.push_to_hub(NAME)
    assert "\n" not in str(error.value)
    assert set(hub.files(NAME)) == {".gitattributes"}
    for wrong in ("dogs", "a/b/c", "", "../dogs"):
        with pytest.raises(ValueError, match="give owner/name"):
            retriever.push_to_hub(wrong)


def data_bin_without_captions(folder: Path) -> Path:
    build(folder / "identifiers", make_codec(), unique_size=32)
    np.save(folder / "embeddings.npy", embed(ITEMS, 0))
    binarize(folder / "identifiers", None, folder / "data-bin", embeddings=folder / "embeddings.npy")
    return folder / "data-bin"


def test_two_uploads_at_once_do_not_mix(hub: Hub, model: Path):
    retriever, other = opened(model), {"README.md": b"of another upload"}
    hub.create(NAME)
    hub.meanwhile = lambda: hub.repositories[NAME].commit("main", other, "another upload")
    with pytest.raises(ValueError, match=f"^{NAME}: the Hub does not take the upload .*A commit has happened since"):
        retriever.push_to_hub(NAME)
    assert hub.files(NAME) == other


def test_what_was_not_opened_from_files_is_not_pushed(hub: Hub, tmp_path: Path):
    found = opened(OLD / "dense.pt", OLD / "dense" / "data-bin")
    data = data_bin_without_captions(tmp_path)
    with pytest.raises(ValueError, match="were not opened from files, so there is nothing to push"):
        CartRetriever(found.models, found.data).push_to_hub(NAME)
    of_folder = opened(OLD / "model")  # other models than the folder's may be in its place
    with pytest.raises(ValueError, match="were not opened from files, so there is nothing to push"):
        CartRetriever(of_folder.models, of_folder.data).push_to_hub(NAME)
    with pytest.raises(ValueError, match="without a trained model is no MODEL folder"):
        ExampleRetriever.from_pretrained(data).push_to_hub(NAME)
    shutil.copy(OLD / "dense.pt", tmp_path / "dense.pt")
    late = opened(tmp_path / "dense.pt", OLD / "dense" / "data-bin")
    os.utime(tmp_path / "dense.pt", (1, 1))
    with pytest.raises(ValueError, match=r"dense.pt: has changed since it was opened"):
        late.push_to_hub(NAME)
    assert hub.requests == []


def test_damaged_files_and_links_are_not_pushed(hub: Hub, model: Path):
    retriever = opened(model)
    (model / "secret").write_text("password")
    (model / "README.md").unlink()
    (model / "README.md").symlink_to("secret")
    with pytest.raises(
        ValueError, match=r"README.md: is a link, and what it leads to may not be meant to be published"
    ):
        retriever.push_to_hub(NAME)
    (model / "README.md").unlink()
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"model.safetensors: sha256 is "):
        retriever.push_to_hub(NAME)
    assert hub.requests == []


def test_the_cache_is_never_changed(hub: Hub, tmp_path: Path):
    export(OLD / "dense.pt", OLD / "dense" / "data-bin", tmp_path / "MODEL")
    opened(tmp_path / "MODEL").push_to_hub(NAME)
    found = opened(NAME)
    root = found.data.root
    before = {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in sorted((tmp_path / "cache").rglob("*"))}
    embeddings, items = new_items(tmp_path / "new", 2)
    refused = rf"stay as they were published; change a copy: cp -rL {root} MODEL"
    for target in (root, root / "identifiers"):
        for update in (lambda at=target: add(at, embeddings, items), lambda at=target: remove(at, ["item 3"])):
            with pytest.raises(ValueError, match=refused):
                update()
        with pytest.raises(ValueError, match=refused):
            compact(target)
    captions = OLD / "captions.jsonl"  # no step gets as far as reading it
    for output in (root, root / "new"):
        with pytest.raises(ValueError, match=refused):
            binarize(OLD / "dense" / "data-bin" / "identifiers", captions, output)
    with pytest.raises(ValueError, match=refused):
        export(OLD / "dense.pt", OLD / "dense" / "data-bin", root)
    said = io.StringIO()
    with redirect_stderr(said):
        assert not store_search_files(found.models, DataBin(root))
    assert "stay as they were published" in said.getvalue()
    found.push_to_hub("someone/copy")
    assert hub.files("someone/copy") == hub.files(NAME)
    after = {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in sorted((tmp_path / "cache").rglob("*"))}
    assert after == before
    shutil.copytree(root, tmp_path / "copy")  # as cp -rL: links are followed
    remove(tmp_path / "copy", ["item 3"])
    assert "item 3" not in {hit.item_id for row in hits(opened(tmp_path / "copy")) for hit in row}


def test_the_service_serves_a_model_of_the_hub(hub: Hub, model: Path):
    opened(model).push_to_hub(NAME)
    first = hub.repositories[NAME].branches["main"]
    request = {"queries": [{"text": text} for text in TEXTS], "k": 5}
    answers = []
    for options in ({"model": NAME, "revision": first}, {"model": model}):
        settings = ServingSettings(precision="float32", device="cpu", port=0, **options)  # type: ignore[arg-type]
        with TestClient(create_app(Service(settings))) as client:
            answers.append(client.post("/api/search", json=request).json()["results"])
            assert client.get("/api/info").json()["model"]["checkpoint"] == [Path(options["model"]).name]
    assert answers[0] == answers[1]
    with pytest.raises(ValueError, match="--revision is of a model on the Hub"):
        ServingSettings(data="data-bin", revision="main")


def test_a_process_finds_the_hub_by_its_environment(hub: Hub, model: Path, tmp_path: Path):
    opened(model).push_to_hub(NAME)
    code = (
        "import sys; from cart_fairseq import CartRetriever; "
        f"print(CartRetriever.from_pretrained({NAME!r}, device='cpu').search(['a red dog'], k=1)[0][0].item_id)"
    )
    environment = {**os.environ, **settings(hub, tmp_path), "PYTHONPATH": str(REPOSITORY)}
    runs = [{}, {"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "empty")}]
    ends = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**environment, **each})
        for each in runs
    ]
    assert ends[0].stdout == ends[1].stdout == opened(model).search(["a red dog"], k=1)[0][0].item_id + "\n"
    assert "its cache does not hold all of it" in ends[2].stderr


def test_without_the_package_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"^someone/dogs: no such folder here, .* pip install 'cart-fairseq\[hub\]'$"):
        opened(NAME)
    with pytest.raises(ValueError, match=r"^huggingface_hub is not installed; pip install 'cart-fairseq\[hub\]'$"):
        opened(OLD / "model").push_to_hub(NAME)
    with pytest.raises(SystemExit) as end, redirect_stderr(io.StringIO()) as said:
        run_script(lambda: serve.main(["--model", NAME]))
    assert end.value.code == 2
    assert said.getvalue().count("\n") == 1
