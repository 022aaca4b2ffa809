"""A new run from old weights, on purpose (`from_checkpoint`): where they are, and whether they fit."""

from gan_distributed.config import Config, Origin, differences
from gan_distributed.errors import ResumeError
from gan_distributed.models.networks import ImageSpec, empty_generator
from gan_distributed.training.trained import load_trained, read_checkpoint


def read_origin(source: str | None) -> tuple[Origin | None, bytes | None]:
    """What the checkpoint is, and its state; source: a run, whose newest one is taken, or one; None: nothing."""
    if source is None:
        return None, None
    checkpoint, state, _ = read_checkpoint(source, "state")
    sha256 = checkpoint.files["state"].sha256
    return Origin(url=checkpoint.url, seen_images=checkpoint.seen_images, state_sha256=sha256), state


def check_origin(config: Config, images: ImageSpec) -> None:
    """Raise ResumeError, naming the fields, where the generator of `from_checkpoint` is not the configured one."""
    if config.from_checkpoint is None:
        return
    old = load_trained(config.from_checkpoint)
    told = [f"{name} is {was}, here {now}" for name, was, now in _shapes(old.images, images)]
    told += [
        f"{path} is {was}, here {now}"
        for path, (was, now) in differences(old.config, config).items()
        if path.startswith("model.")
    ]
    shapes = {name: tensor.shape for name, tensor in old.generator.state_dict().items()}
    wanted = {name: tensor.shape for name, tensor in empty_generator(config.model, images).state_dict().items()}
    if shapes != wanted:
        raise ResumeError(f"{config.from_checkpoint}: its networks are others than the configured: {'; '.join(told)}")


def _shapes(old: ImageSpec, new: ImageSpec) -> list[tuple[str, int, int]]:
    pairs = [
        ("resolution", old.resolution, new.resolution),
        ("number of channels", old.channels, new.channels),
        ("number of classes", old.num_classes, new.num_classes),
    ]
    return [(name, was, now) for name, was, now in pairs if was != now]
