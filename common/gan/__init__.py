"""The chapter's GAN: batches, networks' parts, one alternating step, files."""

from common.gan.batches import LatentSampler
from common.gan.keras2 import BatchNormalization
from common.gan.models import build_adversarial, compile_model

__all__ = ["BatchNormalization", "LatentSampler", "build_adversarial", "compile_model"]
