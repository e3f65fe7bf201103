"""`SearchSpace`: the specs that a supernet was trained for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from todm.config import Config, Mode
from todm.errors import UserError
from todm.space.spec import SubnetSpec


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All specs with a depth, widths and a mode from the lists given.

    A depth d keeps d of the supernet's layers, spread evenly and always including the first and the
    last: the layer next to the features and the one next to the joiner have the most particular jobs.

    Args:
        num_layers: layers of the whole supernet.
        depths: allowed depths, ascending, at most `num_layers`.
        ffn_dims: allowed feed-forward widths, ascending; the last is the full width.
        modes: allowed modes.
        only: the one spec of a net that is trained alone; see `of`. None for all that the lists allow.

    Raises:
        UserError: an empty, unsorted or impossible list.
    """

    num_layers: int
    depths: tuple[int, ...]
    ffn_dims: tuple[int, ...]
    modes: tuple[Mode, ...]
    only: SubnetSpec | None = None

    def __post_init__(self) -> None:
        for key, values in (("depths", self.depths), ("ffn_dims", self.ffn_dims)):
            if not values or list(values) != sorted(set(values)) or values[0] < 1:
                raise UserError(
                    f"space.{key}: need positive numbers in ascending order (min first, max last), "
                    f"got {list(values)}"
                )
        if self.depths[-1] != self.num_layers:
            raise UserError(
                f"space.depths: the largest depth is {self.depths[-1]}, but model.num_layers is "
                f"{self.num_layers}; make them equal"
            )
        if not self.modes or len(set(self.modes)) != len(self.modes):
            raise UserError(f"space.modes: need 'offline', 'streaming' or both, got {list(self.modes)}")

    @classmethod
    def from_config(cls, config: Config) -> SearchSpace:
        """The space that `config` describes."""
        return cls(
            num_layers=config.model.num_layers,
            depths=config.space.depths,
            ffn_dims=config.space.ffn_dims,
            modes=config.space.modes,
        )

    @classmethod
    def of(cls, spec: SubnetSpec) -> SearchSpace:
        """The space that holds `spec` alone: a net whose layers are all that there are.

        Example:
            >>> spec = SubnetSpec(layers=(0, 1), ffn_dims=(16, 8), mode="streaming")
            >>> space = SearchSpace.of(spec)
            >>> space.max() == space.min() == spec, list(space.corners())
            (True, [])
        """
        assert spec.layers == tuple(range(spec.depth)), spec
        return cls(
            num_layers=spec.depth,
            depths=(spec.depth,),
            ffn_dims=tuple(sorted(set(spec.ffn_dims))),
            modes=(spec.mode,),
            only=spec,
        )

    def layers_at(self, depth: int) -> tuple[int, ...]:
        """Indices of the layers kept at `depth`.

        Example:
            >>> space = SearchSpace(num_layers=6, depths=(3, 6), ffn_dims=(8,), modes=("offline",))
            >>> space.layers_at(3)
            (0, 2, 5)
        """
        if depth == 1:
            return (self.num_layers - 1,)
        span = self.num_layers - 1
        return tuple(i * span // (depth - 1) for i in range(depth))

    def uniform(self, depth: int, ffn_dim: int, mode: Mode) -> SubnetSpec:
        """The spec with one width everywhere (the only one, where there is but one)."""
        return self.only or SubnetSpec(layers=self.layers_at(depth), ffn_dims=(ffn_dim,) * depth, mode=mode)

    def max(self, mode: Mode | None = None) -> SubnetSpec:
        """The largest spec; of the first mode of the space when none is given."""
        return self.uniform(self.depths[-1], self.ffn_dims[-1], mode or self.modes[0])

    def min(self, mode: Mode | None = None) -> SubnetSpec:
        """The smallest spec; of the first mode of the space when none is given."""
        return self.uniform(self.depths[0], self.ffn_dims[0], mode or self.modes[0])

    def mid(self, mode: Mode | None = None) -> SubnetSpec:
        """Middle depth, middle width (the upper one of an even number)."""
        depth = self.depths[len(self.depths) // 2]
        return self.uniform(depth, self.ffn_dims[len(self.ffn_dims) // 2], mode or self.modes[0])

    def ladder(self) -> dict[str, SubnetSpec]:
        """The named sizes every run ships: ``min, mid, max`` and ``min-streaming, ...``."""
        sizes = {"min": self.min, "mid": self.mid, "max": self.max}
        return {
            size if mode == "offline" else f"{size}-streaming": make(mode)
            for mode in self.modes
            for size, make in sizes.items()
        }

    def resolve(self, text: str) -> SubnetSpec:
        """A ladder name or a spec's JSON to the spec; raises `UserError` with the names known."""
        ladder = self.ladder()
        if text in ladder:
            return ladder[text]
        raise UserError(f"spec {text!r}: not one of {', '.join(ladder)}; or give the path of a spec.json")

    def sample(self, rng: random.Random, mode: Mode | None = None) -> SubnetSpec:
        """Uniform depth, uniform width per layer, uniform mode unless one is given."""
        if self.only is not None:
            return self.only
        depth = rng.choice(self.depths)
        widths = tuple(rng.choice(self.ffn_dims) for _ in range(depth))
        chosen = rng.choice(self.modes) if mode is None else mode
        return SubnetSpec(layers=self.layers_at(depth), ffn_dims=widths, mode=chosen)

    def contains(self, spec: SubnetSpec) -> bool:
        """Whether the supernet can run `spec`: known layers, widths from the list, known mode."""
        if self.only is not None:
            return spec == self.only
        return (
            spec.layers[-1] < self.num_layers
            and spec.mode in self.modes
            and all(dim in self.ffn_dims for dim in spec.ffn_dims)
        )

    def check(self, spec: SubnetSpec) -> None:
        """Raise `UserError` when `spec` is outside this space."""
        if not self.contains(spec):
            raise UserError(
                f"spec {spec.to_json()}: outside the trained space (layers 0 to {self.num_layers - 1}, "
                f"ffn_dims {list(self.ffn_dims)}, modes {list(self.modes)})"
            )

    def corners(self) -> Iterator[SubnetSpec]:
        """Smallest and largest spec of each mode, without the overall max, for the sandwich rule."""
        top = self.max()
        seen = {top}
        for pick in (self.min, self.max):
            for mode in self.modes:
                spec = pick(mode)
                if spec not in seen:
                    seen.add(spec)
                    yield spec
