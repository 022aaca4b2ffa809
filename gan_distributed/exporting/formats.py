"""The bytes of an exported generator in each format, and whether they give the same images when they are read again."""

import importlib.util
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gan_distributed.errors import GanError, InputError
from gan_distributed.exporting.card import without_places
from gan_distributed.exporting.portable import examples, input_names, portable
from gan_distributed.training.state import encode_generator, generator_metadata
from gan_distributed.training.trained import Trained

Format = Literal["safetensors", "torch-export", "onnx"]
FILE_NAMES: dict[Format, str] = {
    "safetensors": "generator.safetensors",
    "torch-export": "generator.pt2",
    "onnx": "generator.onnx",
}
OUTPUT_NAME = "images"
# Of images in [-1, 1], whose 256 levels are 0.008 apart; other kernels sum in another order.
TOLERANCE = 1e-3
# A number that the exporters have not seen.
_CHECKED_IMAGES = 5


def encode(trained: Trained, kind: Format) -> tuple[bytes, float | None]:
    """A file's bytes, and how far its images are from ours at most; None where nothing here can run it.

    Raises InputError where a package is missing, GanError where the images are others.
    """
    if kind == "safetensors":
        return _safetensors(trained), 0.0
    network = portable(trained)
    inputs = examples(trained, _CHECKED_IMAGES)
    with torch.no_grad():
        wanted = network(*inputs)
        data, found = _torch_export(trained, network) if kind == "torch-export" else _onnx(trained, network)
    if found is None:
        return data, None
    difference = float((found - wanted).abs().max())
    # Not a number is no small difference.
    if not difference <= TOLERANCE:
        raise GanError(
            f"{FILE_NAMES[kind]}: its images differ by {difference:.2g} from those of the generator, more than "
            f"{TOLERANCE}; nothing was written"
        )
    return data, difference


def _safetensors(trained: Trained) -> bytes:
    weights = {
        name: value.float() if value.is_floating_point() else value
        for name, value in trained.generator.state_dict().items()
    }
    metadata = generator_metadata(
        without_places(trained.config), trained.images, trained.class_names, trained.seen_images
    )
    return encode_generator(weights, metadata)


def _exported(trained: Trained, network: nn.Module) -> Any:
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in input_names(trained))
    return torch.export.export(network, examples(trained), dynamic_shapes=shapes)


def _torch_export(trained: Trained, network: nn.Module) -> tuple[bytes, Tensor]:
    file = io.BytesIO()
    torch.export.save(_exported(trained, network), file)
    file.seek(0)
    again = torch.export.load(file).module()
    return file.getvalue(), again(*examples(trained, _CHECKED_IMAGES))


def _onnx(trained: Trained, network: nn.Module) -> tuple[bytes, Tensor | None]:
    if importlib.util.find_spec("onnxscript") is None:
        raise InputError("--format onnx: onnxscript is not installed; pip install 'gan-distributed[onnx]'")
    with warnings.catch_warnings():
        # The exporter warns of its own libraries, and of one name for the batch of both inputs.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _exported(trained, network),
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=input_names(trained),
            output_names=[OUTPUT_NAME],
        )
    if program is None:
        raise RuntimeError("the ONNX exporter gave no program")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAMES["onnx"]
        program.save(str(path), external_data=False)
        return path.read_bytes(), _run_onnx(trained, path)


def _run_onnx(trained: Trained, path: Path) -> Tensor | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = [one.numpy() for one in examples(trained, _CHECKED_IMAGES)]
    found = session.run([OUTPUT_NAME], dict(zip(input_names(trained), inputs, strict=True)))
    return torch.from_numpy(found[0])
