"""`export`: programs without this package make the same images; a card says what they are, once all is there."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from toy_families import FAMILIES
from toy_trained import NAMES, toy_trained

from gan_distributed.data import storage
from gan_distributed.errors import GanError, InputError, StorageError
from gan_distributed.export import export
from gan_distributed.exporting import formats, publishing
from gan_distributed.exporting.card import without_places
from gan_distributed.exporting.publishing import publish
from gan_distributed.training.trained import load_trained

# What another program does; this package is not to be had there.
PLAIN_TORCH = """
import json, sys
sys.modules["gan_distributed"] = None
import numpy, torch
for folder in sys.argv[1:]:
    program = torch.export.load(folder + "/generator.pt2").module()
    for num in (1, 2, 7):
        inputs = numpy.load(f"{folder}/inputs-{num}.npz")
        images = program(*(torch.from_numpy(inputs[name]) for name in sorted(inputs, reverse=True)))
        numpy.save(f"{folder}/images-{num}.npy", images.detach().numpy())
"""


def quiet(line: str) -> None:
    pass


def inputs_of(trained, num: int) -> dict[str, np.ndarray]:
    z = np.random.default_rng(num).standard_normal((num, 10)).astype("float32")
    return {"z": z} | ({"labels": np.arange(num) % 3} if trained.num_classes else {})


def wanted(trained, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """By the generator itself, in float64."""
    labels = torch.from_numpy(inputs.get("labels", np.zeros(len(inputs["z"]), np.int64)))
    with torch.inference_mode():
        images = trained.generator.double()(torch.from_numpy(inputs["z"]).double(), labels)
    return images.clamp(-1, 1).numpy()


def in_plain_torch(cases: dict[Path, object]) -> None:
    """Each folder's program gives its generator's images, for any number of them."""
    for folder, trained in cases.items():
        for num in (1, 2, 7):
            np.savez(folder / f"inputs-{num}.npz", **inputs_of(trained, num))
    words = [sys.executable, "-c", PLAIN_TORCH, *map(str, cases)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=1200, check=False)
    assert ended.returncode == 0, ended.stderr
    for folder, trained in cases.items():
        for num in (1, 2, 7):
            images = np.load(folder / f"images-{num}.npy")
            assert (images.dtype, images.shape[0]) == (np.float32, num)
            np.testing.assert_allclose(images, wanted(trained, inputs_of(trained, num)), atol=2e-5, err_msg=str(folder))


def in_onnxruntime(folder: Path, trained) -> None:
    session = onnxruntime.InferenceSession(str(folder / "generator.onnx"))
    for num in (1, 2, 7):
        inputs = inputs_of(trained, num)
        (images,) = session.run(["images"], inputs)
        np.testing.assert_allclose(images, wanted(trained, inputs), atol=2e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder, trained = tmp_path_factory.mktemp("exported"), toy_trained("convnet")
    card = publish(trained, str(folder), ["safetensors", "torch-export", "onnx"], "mit", quiet)
    return folder, trained, card


def test_plain_torch_makes_the_same_images(exported, tmp_path):
    unconditional = toy_trained("biggan", conditional=False, channels=1)
    publish(unconditional, str(tmp_path), ["torch-export"], None, quiet)
    in_plain_torch({exported[0]: exported[1], tmp_path: unconditional})


def test_a_runtime_of_onnx_makes_the_same_images(exported):
    in_onnxruntime(*exported[:2])


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bf16", "float64"])
def test_every_family_in_every_precision(tmp_path, conditional, precision):
    cases = {}
    for family in FAMILIES:
        trained = toy_trained(family, conditional=conditional, precision=precision)
        publish(trained, str(tmp_path / family), ["torch-export", "onnx"], None, quiet)
        in_onnxruntime(tmp_path / family, trained)
        cases[tmp_path / family] = trained
    in_plain_torch(cases)


def test_the_weights_come_back(exported):
    folder, trained, _ = exported
    again = load_trained(str(folder / "generator.safetensors"))
    assert (again.class_names, again.seen_images, again.num_classes) == (NAMES, 640, 3)
    for name, weight in trained.generator.state_dict().items():
        assert again.generator.state_dict()[name].equal(weight.float()), name


def test_the_card_says_what_it_is(exported):
    folder, _, card = exported
    assert json.loads((folder / "card.json").read_text()) == card
    assert card["inputs"]["z"] == {"shape": ["batch", 10], "dtype": "float32", "distribution": "standard normal"}
    assert card["inputs"]["labels"]["range"] == [0, 2]
    assert card["outputs"]["images"]["shape"] == ["batch", 3, 32, 32]
    assert (card["classes"], card["license"]) == (list(NAMES), "mit")
    for name, file in card["files"].items():
        data = (folder / name).read_bytes()
        assert formats.FILE_NAMES[file["format"]] == name
        assert file["bytes"] == len(data)
        assert file["largest_difference"] < 2e-5
    page = (folder / "README.md").read_text()
    assert page.startswith("---\nlicense: mit\nlibrary_name: gan-distributed\n")
    assert "0: left, 1: middle, 2: right" in page
    assert (folder / "samples.png").exists()


def test_the_code_of_the_page_runs(exported, monkeypatch):
    folder = exported[0]
    monkeypatch.chdir(folder)
    blocks = [block.split("```")[0] for block in (folder / "README.md").read_text().split("```python\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        names: dict = {}
        exec(block, names)
        assert len(names["images"]) == 16


def test_places_are_not_told():
    config = toy_trained().config
    data = config.data.model_copy(update={"url": "/home/me/pictures"})
    config = config.model_copy(update={"data": data, "output": "gs://mine", "from_checkpoint": "/home/me/old"})
    told = without_places(config).model_dump_json()
    assert "/home/me" not in told
    assert "gs://mine" not in told


def test_a_second_format_joins_the_first_and_another_checkpoint_does_not(tmp_path):
    trained = toy_trained()
    publish(trained, str(tmp_path), ["torch-export"], "mit", quiet)
    card = publish(trained, str(tmp_path), ["safetensors"], None, quiet)
    assert sorted(card["files"]) == ["generator.pt2", "generator.safetensors"]
    assert card["license"] == "mit"
    before = (tmp_path / "card.json").read_bytes()
    with pytest.raises(InputError, match="holds the export of another checkpoint"):
        publish(replace(trained, sha256="1" * 64), str(tmp_path), ["safetensors"], None, quiet)
    assert (tmp_path / "card.json").read_bytes() == before


def test_what_others_wrote_stays(tmp_path):
    (tmp_path / "README.md").write_text("my notes")
    with pytest.raises(InputError, match=r"README\.md: not written by export"):
        publish(toy_trained(), str(tmp_path), ["safetensors"], None, quiet)
    (tmp_path / "card.json").write_text("[]")
    with pytest.raises(InputError, match=r"card\.json: not a card that export wrote"):
        publish(toy_trained(), str(tmp_path), ["safetensors"], None, quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "card.json"]


@pytest.mark.parametrize("failing", ["generator.safetensors", "samples.png", "README.md", "card.json"])
def test_without_its_last_file_nothing_is_found(tmp_path, monkeypatch, failing):
    trained = toy_trained("convnet")
    publish(trained, str(tmp_path), ["safetensors"], None, quiet)
    write = storage.write

    def failing_write(url: str, data: bytes) -> None:
        if url.endswith(failing):
            raise StorageError(f"{url}: full")
        write(url, data)

    with monkeypatch.context() as patch:
        patch.setattr(publishing.storage, "write", failing_write)
        with pytest.raises(StorageError):
            publish(trained, str(tmp_path), ["safetensors"], None, quiet)
    assert not (tmp_path / "card.json").exists()
    publish(trained, str(tmp_path), ["safetensors"], None, quiet)
    assert (tmp_path / "card.json").exists()


def test_a_program_that_makes_other_images_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "TOLERANCE", -1.0)
    with pytest.raises(GanError, match=r"generator\.pt2: its images differ by .* nothing was written"):
        publish(toy_trained("convnet"), str(tmp_path), ["torch-export"], None, quiet)
    assert not list(tmp_path.iterdir())


def test_a_mistyped_format_is_told(tmp_path):
    for word, told in (("onx", "--format onx: did you mean onnx?"), ("h5", "known: safetensors, torch-export, onnx")):
        with pytest.raises(InputError) as caught:
            export(str(tmp_path), str(tmp_path / "out"), format_=[word])
        assert told in str(caught.value)


def test_without_its_package_onnx_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"onnxscript is not installed; pip install 'gan-distributed\[onnx\]'"):
        publish(toy_trained("convnet"), str(tmp_path), ["onnx"], None, quiet)
    assert not list(tmp_path.iterdir())
