"""The card as a page for people, with the header that model hubs read."""

from typing import Any

MARK = "<!-- Written by gan-distributed export, which writes it anew when it runs again. -->"

_USES = {
    "safetensors": """import gan_distributed

images = gan_distributed.load_generator("generator.safetensors")(num=16, seed=0)   # uint8 [N, H, W, C]
""",
    "torch-export": """import torch

generator = torch.export.load("generator.pt2").module()
images = generator({inputs})   # float32 [N, C, H, W] in [-1, 1]
""",
    "onnx": """import numpy, onnxruntime

session = onnxruntime.InferenceSession("generator.onnx")
z = numpy.random.standard_normal((16, {latent_dim})).astype("float32")
images, = session.run(["images"], {feed})   # float32 [N, C, H, W] in [-1, 1]
""",
}
_NEEDS = {
    "safetensors": "this package",
    "torch-export": "torch alone",
    "onnx": "onnxruntime or another runtime of ONNX",
}


def encode_readme(card: dict[str, Any], name: str) -> bytes:
    """README.md as model hubs take it. name: a title."""
    shape = card["outputs"]["images"]["shape"]
    channels, side = shape[1], shape[2]
    kind = "class-conditional" if card["classes"] else "unconditional"
    lines = [
        *_header(card),
        MARK,
        "",
        f"# {name}",
        "",
        f"A {kind} GAN generator ({card['family']}) of {side} x {side} px {'grey' if channels == 1 else 'RGB'} images, "
        f"after {card['origin']['seen_images']:,} training images. `card.json` says the same to programs.",
        "",
        "![Samples](samples.png)",
        "",
        *_usage(card),
        *_classes(card),
        *_scores(card),
        *_training(card),
        *_rights(card),
    ]
    return "\n".join(lines).encode()


def _header(card: dict[str, Any]) -> list[str]:
    tags = ["gan", "image-generation", card["family"]]
    # Hubs know a fixed list of licences; `other` is for all else.
    told = card["license"] or "other"
    lines = ["---", f"license: {told}", "library_name: gan-distributed", "pipeline_tag: unconditional-image-generation"]
    return [*lines, "tags:", *(f"- {tag}" for tag in tags), "---", ""]


def _usage(card: dict[str, Any]) -> list[str]:
    latent_dim = card["inputs"]["z"]["shape"][1]
    inputs = f"torch.randn(16, {latent_dim})"
    feed = '{"z": z}'
    if card["classes"]:
        inputs += f", torch.randint(0, {len(card['classes'])}, (16,))"
        feed = f'{{"z": z, "labels": numpy.arange(16) % {len(card["classes"])}}}'
    lines = ["## Use", ""]
    for file, said in sorted(card["files"].items()):
        kind = said["format"]
        code = _USES[kind].replace("{inputs}", inputs).replace("{feed}", feed).replace("{latent_dim}", str(latent_dim))
        lines += [f"`{file}` needs {_NEEDS[kind]}:", "", "```python", code.rstrip(), "```", ""]
    return [*lines, "Latents are standard normal; smaller ones give more typical images and less variety.", ""]


def _classes(card: dict[str, Any]) -> list[str]:
    if not card["classes"]:
        return []
    return ["## Classes", "", ", ".join(f"{label}: {name}" for label, name in enumerate(card["classes"])), ""]


def _scores(card: dict[str, Any]) -> list[str]:
    if not card["scores"]:
        return ["## Scores", "", "None were taken of these weights.", ""]
    lines = [
        "## Scores",
        "",
        "| metric | value | generated | real | features | protocol |",
        "|---|---|---|---|---|---|",
    ]
    for record in card["scores"]:
        protocol = record["protocol"]
        lines.append(
            f"| {record['metric']} | {record['value']:.6g} | {protocol['num_fake']} | {protocol['num_real']} | "
            f"{protocol['features'] or 'none'} | {record['protocol_digest'][:12]} |"
        )
    return [*lines, "", "The whole protocol of each is in `card.json`; only scores of one protocol compare.", ""]


def _training(card: dict[str, Any]) -> list[str]:
    origin = card["origin"]
    dataset = origin["dataset_fingerprint"]
    return [
        "## Training",
        "",
        f"- data set: fingerprint {dataset[:12] if dataset else 'not recorded'}",
        f"- loss: {card['recipe']['loss']['name']}; batch size: {card['recipe']['training']['batch_size']}; "
        f"precision: {card['recipe']['training']['precision']}",
        f"- weights: {'averaged over training' if origin['weights'] == 'ema' else 'not averaged'}, "
        f"sha256 of the checkpoint {origin['checkpoint_sha256'][:12]}",
        "- the whole recipe: `recipe` in `card.json`",
        "",
    ]


def _rights(card: dict[str, Any]) -> list[str]:
    told = card["license"] or "Not stated. Ask whoever trained it."
    lines = ["## Licence and limits", "", f"Weights: {told}", ""]
    return [
        *lines,
        "Rights in the images that it was trained on may bind what it makes. It shows what these images show, with "
        "their gaps and biases, and nothing that it makes is evidence of anything.",
        "",
    ]
