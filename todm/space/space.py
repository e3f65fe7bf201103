"""`SearchSpace`: the specs that a supernet was trained for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from todm.config import Config, Mode
from todm.errors import UserError
from todm.space.dimensions import select_blocks
from todm.space.spec import SubnetSpec
from todm.space.widths import Widths


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """All specs with a depth, widths and a mode from the lists given.

    A depth d keeps d of the supernet's layers, spread evenly and always including the first and the
    last, which have the most specific functions: they read the features and feed the joiner.

    Args:
        num_layers: layers of the whole supernet.
        depths: allowed depths, ascending, at most `num_layers`.
        widths: allowed widths of every elastic dimension by its name, ascending; the last is the full width.
        modes: allowed modes.
        only: the spec of a net that is trained alone, see `of`; None for all specs of the lists.

    Raises:
        UserError: an empty, unsorted or impossible list.
    """

    num_layers: int
    depths: tuple[int, ...]
    widths: Mapping[str, tuple[int, ...]]
    modes: tuple[Mode, ...]
    only: SubnetSpec | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", Widths(self.widths))
        lists = {"depths": self.depths, **{f"widths.{name}": values for name, values in self.widths.items()}}
        for key, values in lists.items():
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
        """The space that `config` describes; `UserError` for an undeclared or missing dimension."""
        select_blocks(config.space.widths)
        return cls(
            num_layers=config.model.num_layers,
            depths=config.space.depths,
            widths=config.space.widths,
            modes=config.space.modes,
        )

    @classmethod
    def of(cls, spec: SubnetSpec) -> SearchSpace:
        """A space containing only `spec`, which runs all layers of its net.

        Example:
            >>> spec = SubnetSpec(layers=(0, 1), widths={"ffn_dim": (16, 8)}, mode="streaming")
            >>> space = SearchSpace.of(spec)
            >>> space.max() == space.min() == spec, list(space.corners())
            (True, [])
        """
        assert spec.layers == tuple(range(spec.depth)), spec
        return cls(
            num_layers=spec.depth,
            depths=(spec.depth,),
            widths={name: tuple(sorted(set(values))) for name, values in spec.widths.items()},
            modes=(spec.mode,),
            only=spec,
        )

    def layers_at(self, depth: int) -> tuple[int, ...]:
        """Indices of the layers kept at `depth`.

        Example:
            >>> space = SearchSpace(num_layers=6, depths=(3, 6), widths={"ffn_dim": (8,)}, modes=("offline",))
            >>> space.layers_at(3)
            (0, 2, 5)
        """
        if depth == 1:
            return (self.num_layers - 1,)
        span = self.num_layers - 1
        return tuple(i * span // (depth - 1) for i in range(depth))

    def uniform(self, depth: int, width: Mapping[str, int], mode: Mode) -> SubnetSpec:
        """The spec with the same widths in all layers, one for each dimension; `only` where it is set."""
        if self.only is not None:
            return self.only
        widths = {name: (width[name],) * depth for name in self.widths}
        return SubnetSpec(layers=self.layers_at(depth), widths=widths, mode=mode)

    def shallow_corners(self, mode: Mode) -> list[SubnetSpec]:
        """The smallest spec with one dimension at its full width, for each dimension."""
        least, full = self.width_at(0.0), self.width_at(1.0)
        return [self.uniform(self.depths[0], {**least, name: full[name]}, mode) for name in self.widths]

    def uniform_widths(self) -> Iterator[dict[str, int]]:
        """All choices of one width for each dimension, for `uniform`."""
        for values in itertools.product(*self.widths.values()):
            yield dict(zip(self.widths, values, strict=True))

    def width_at(self, share: float) -> dict[str, int]:
        """Width of each dimension at a place in its list: 0 smallest, 0.5 (upper) middle, 1 largest."""
        return {
            name: values[min(int(share * len(values)), len(values) - 1)]
            for name, values in self.widths.items()
        }

    def max(self, mode: Mode | None = None) -> SubnetSpec:
        """The largest spec; of the first mode of the space when none is given."""
        return self.uniform(self.depths[-1], self.width_at(1.0), mode or self.modes[0])

    def min(self, mode: Mode | None = None) -> SubnetSpec:
        """The smallest spec; of the first mode of the space when none is given."""
        return self.uniform(self.depths[0], self.width_at(0.0), mode or self.modes[0])

    def mid(self, mode: Mode | None = None) -> SubnetSpec:
        """Middle depth, middle width (the upper one of an even number)."""
        depth = self.depths[len(self.depths) // 2]
        return self.uniform(depth, self.width_at(0.5), mode or self.modes[0])

    def ladder(self) -> dict[str, SubnetSpec]:
        """The named sizes every run ships: ``min``, ``mid``, ``max`` and ``min-streaming`` etc.."""
        sizes = {"min": self.min, "mid": self.mid, "max": self.max}
        return {
            size if mode == "offline" else f"{size}-streaming": make(mode)
            for mode in self.modes
            for size, make in sizes.items()
        }

    def resolve(self, text: str) -> SubnetSpec:
        """Look up a ladder name; `UserError` lists the known names."""
        ladder = self.ladder()
        if text in ladder:
            return ladder[text]
        raise UserError(f"spec {text!r}: not one of {', '.join(ladder)}; or give the path of a spec.json")

    def sample(self, rng: random.Random, mode: Mode | None = None) -> SubnetSpec:
        """Draw depth, the widths of every layer, and the mode unless one is given, each uniformly."""
        if self.only is not None:
            return self.only
        depth = rng.choice(self.depths)
        # Reproducibility of a run depends on the order of the draws: depth, widths by layer, mode.
        widths = {
            name: tuple(rng.choice(values) for _ in range(depth)) for name, values in self.widths.items()
        }
        chosen = rng.choice(self.modes) if mode is None else mode
        return SubnetSpec(layers=self.layers_at(depth), widths=widths, mode=chosen)

    def contains(self, spec: SubnetSpec) -> bool:
        """Whether the supernet can run `spec`: known layers, widths from the list, known mode."""
        if self.only is not None:
            return spec == self.only
        return (
            spec.layers[-1] < self.num_layers
            and spec.mode in self.modes
            and set(spec.widths) == set(self.widths)
            and all(set(widths) <= set(self.widths[name]) for name, widths in spec.widths.items())
        )

    def check(self, spec: SubnetSpec) -> None:
        """Raise `UserError` when `spec` is outside this space."""
        if not self.contains(spec):
            raise UserError(
                f"spec {spec.to_json()}: outside the trained space (layers 0 to {self.num_layers - 1}, "
                f"widths {self.widths}, modes {list(self.modes)})"
            )

    def share(self, spec: SubnetSpec) -> Fraction:
        """Rough size of a spec, 0 to 1 (exact): c'/c of the summed widths, the mean over the dimensions.

        Example:
            >>> widths = {"ffn_dim": (4, 8)}
            >>> space = SearchSpace(num_layers=2, depths=(1, 2), widths=widths, modes=("offline",))
            >>> space.share(space.max()), space.share(space.min())
            (Fraction(1, 1), Fraction(1, 4))
        """
        whole = self.max(spec.mode)
        shares = [Fraction(sum(spec.width(name)), sum(whole.width(name))) for name in self.widths]
        return sum(shares, Fraction()) / len(shares)

    def layer_shares(self, spec: SubnetSpec, dimension: str) -> list[float]:
        """Width of each running layer in one dimension divided by the layer's full width, in (0, 1]."""
        whole = self.max(spec.mode)
        full = dict(zip(whole.layers, whole.width(dimension), strict=True))
        running = zip(spec.layers, spec.width(dimension), strict=True)
        return [width / full[index] for index, width in running]

    def corners(self) -> Iterator[SubnetSpec]:
        """Smallest and largest spec of each mode except the overall max, for the sandwich rule."""
        top = self.max()
        seen = {top}
        for pick in (self.min, self.max):
            for mode in self.modes:
                spec = pick(mode)
                if spec not in seen:
                    seen.add(spec)
                    yield spec
