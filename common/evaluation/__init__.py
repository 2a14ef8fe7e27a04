"""How good the digits are."""

from common import device  # noqa: F401  # before Keras, which it sets up
