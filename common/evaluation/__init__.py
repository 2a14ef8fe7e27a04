"""How good the digits are."""

from common import runtime  # noqa: F401  # before Keras, which it sets up
