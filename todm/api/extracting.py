"""Extract subnets from a run's averaged supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from todm.api.results import ExtractResult, Subnet
from todm.errors import UserError
from todm.extract import extract
from todm.layout import RunFolder
from todm.model_dir import find_supernet, load_supernet, save_subnet
from todm.search.front import SearchResult
from todm.space.spec import SubnetSpec


def extract_subnets(
    exp_dir: Path,
    names: Sequence[str] | None = None,
    *,
    ladder: bool = False,
    pareto: bool = False,
    specs: Mapping[str, SubnetSpec] | None = None,
) -> ExtractResult:
    """Write subnet folders to ``EXP/subnets``.

    Args:
        exp_dir: run folder with an averaged supernet.
        names: extract only these of the selected sizes; None extracts all of them.
        ladder: select the named sizes of every mode.
        pareto: select the specs that the search chose, under the spec's short name.
        specs: further specs by folder name.

    Raises:
        UserError: nothing selected, an unknown name, no supernet, or no search result.
    """
    if not (ladder or pareto or specs):
        raise UserError("nothing to extract: give --ladder, --pareto or --spec FILE")
    run = RunFolder(exp_dir)
    supernet, config = load_supernet(find_supernet(exp_dir))
    selected: dict[str, SubnetSpec] = dict(supernet.space.ladder()) if ladder else {}
    if pareto:
        if not run.pareto.is_file():
            raise UserError(f"{run.pareto}: missing; run 'todm search --exp-dir {exp_dir}' first")
        known = set(selected.values())
        chosen = SearchResult.load(run.pareto).chosen
        selected.update({point.spec.name: point.spec for point in chosen if point.spec not in known})
    selected.update(specs or {})
    if names is not None:
        for name in names:
            if name not in selected:
                raise UserError(f"extract: no size {name!r} is selected; choose from {', '.join(selected)}")
        selected = {name: selected[name] for name in names}
    subnets = []
    for name, spec in selected.items():
        net = extract(supernet, spec)
        save_subnet(run.subnet(name), net, config, run.supernet)
        num_params = sum(parameter.numel() for parameter in net.parameters())
        subnets.append(Subnet(name=name, spec=spec, num_params=num_params, folder=run.subnet(name)))
    return ExtractResult(subnets=tuple(subnets))
