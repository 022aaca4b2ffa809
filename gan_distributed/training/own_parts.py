"""What a user's own family and loss must be for the rest of the configuration: checked before a worker starts."""

from gan_distributed.config import Config
from gan_distributed.config.own import folder_of, is_own
from gan_distributed.config.section import largest
from gan_distributed.errors import ConfigError
from gan_distributed.models.networks import ImageSpec, build_discriminator, build_generator
from gan_distributed.models.own_networks import check_own
from gan_distributed.training.losses import find_loss


def check_own_parts(config: Config, images: ImageSpec) -> tuple[str, ...]:
    """The folders that workers need to import them from; none where nothing is the user's own. Raises ConfigError."""
    if config.model.is_own:
        _check_family(config, images)
    loss = find_loss(config.loss)
    if config.augment.adaptive and loss.boundary is None:
        raise ConfigError(
            f"augment.p adaptive reads the sign of logits, which have no boundary in loss.name {config.loss.name}; set "
            "augment.p to a number or a schedule"
        )
    folders = [folder_of(name) for name in (config.model.family, config.loss.name) if is_own(name)]
    return tuple(dict.fromkeys(folder for folder in folders if folder is not None))


def _check_family(config: Config, images: ImageSpec) -> None:
    generator = build_generator(config.model, images, config.seed)
    discriminator = build_discriminator(config.model, images, config.seed)
    num_classes = images.num_classes if config.model.conditional else 0
    check_own(generator, discriminator, config.model, (images.resolution, images.channels, num_classes))
    if largest(config.loss.gp_weight) and discriminator.mixes_samples:
        raise ConfigError(
            f"loss.gp_weight is for each image's own gradient, which the discriminator of {config.model.family} mixes "
            "with the others'; use loss.r1_gamma instead"
        )
