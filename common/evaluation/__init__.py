"""How good the digits are."""
