"""todm: train one speech recogniser, ship every size."""

__version__ = "0.1.0"
