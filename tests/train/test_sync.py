"""Two gloo processes: sums and means of gradients, skipped parameters, weights, metrics."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from todm.errors import UserError
from todm.train.sync import (
    World,
    broadcast_weights,
    process_group,
    reduce_gradients,
    sum_over_processes,
    sum_tensor,
)


def make_params() -> list[nn.Parameter]:
    """Used by both; by rank 1 only; by nobody; by rank 0 only; of another dtype; a scalar."""
    shapes: list[tuple[int, ...]] = [(2, 3), (4,), (5,), (2, 2), (3,), ()]
    dtypes = [torch.float32] * 4 + [torch.float64, torch.float32]
    return [
        nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


def set_grads(params: list[nn.Parameter], rank: int) -> None:
    for index, param in enumerate(params):
        if index == 2 or (index == 1 and rank == 0) or (index == 3 and rank == 1):
            param.grad = None
        else:
            param.grad = torch.full_like(param, 10.0**index * (rank + 1))
    # Not contiguous, as the gradients of transposed weights are.
    params[0].grad = torch.arange(6.0).view(3, 2).t() * (rank + 1)


def check_gradients(rank: int) -> None:
    for bucket_numel in (1, 7, 2**20):
        params = make_params()
        set_grads(params, rank)
        reduce_gradients(params, bucket_numel=bucket_numel)
        grads = [param.grad for param in params]
        assert grads[0] is not None
        assert torch.equal(grads[0], torch.arange(6.0).view(3, 2).t() * 3)
        assert grads[2] is None  # missing everywhere
        for index, total in ((1, 20.0), (3, 1000.0), (4, 3e4), (5, 3e5)):
            grad = grads[index]
            assert grad is not None and grad.dtype == params[index].dtype
            assert torch.equal(grad, torch.full_like(params[index], total)), index


def check_joined_batch(rank: int) -> None:
    """Two halves of a batch, each through other layers = the whole batch, every layer, in one process."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(6, 4, generator=generator)
    torch.manual_seed(100 + rank)  # ranks begin different
    net = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
    net.register_buffer("scale", torch.full((1,), float(rank)))
    broadcast_weights(net)
    assert net.get_buffer("scale").item() == 0.0

    def loss(rows: torch.Tensor, layer: int) -> torch.Tensor:
        return torch.tanh(net[layer](rows)).square().sum()

    loss(inputs[:3], 0).backward() if rank == 0 else loss(inputs[3:], 1).backward()
    reduce_gradients(net.parameters())
    mine = [None if param.grad is None else param.grad.clone() for param in net.parameters()]
    net.zero_grad()
    (loss(inputs[:3], 0) + loss(inputs[3:], 1)).backward()
    for got, param in zip(mine, net.parameters(), strict=True):
        assert (got is None) == (param.grad is None)
        if got is not None and param.grad is not None:
            torch.testing.assert_close(got, param.grad)


def check_metrics(rank: int) -> None:
    mine = {"frames": 3.0, "only zero": 1.0} if rank == 0 else {"only one": 5.0, "frames": 4.0}
    total = sum_over_processes(mine)
    assert list(total.items()) == [("frames", 7.0), ("only zero", 1.0), ("only one", 5.0)]
    local = torch.tensor([rank + 1.0])
    assert sum_tensor(local).item() == 3.0 and local.item() == rank + 1.0


def work(rank: int, port: int, folder: str) -> None:
    import os

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    world = World(rank=rank, size=2, local_rank=rank)
    with process_group(world, device=torch.device("cpu")):
        assert dist.get_world_size() == 2
        check_gradients(rank)
        check_joined_batch(rank)
        check_metrics(rank)
    assert not dist.is_initialized()
    (Path(folder) / f"done-{rank}").write_text("")


def test_two_processes(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(work, args=(port, str(tmp_path)), nprocs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done-0", "done-1"]


def test_one_process_changes_nothing() -> None:
    params = make_params()
    set_grads(params, 0)
    before = [param.grad for param in params]
    with process_group(World(), device=torch.device("cpu")):
        reduce_gradients(params)
        broadcast_weights(nn.Linear(2, 2))
        assert sum_over_processes({"a": 1.0}) == {"a": 1.0}
        assert sum_tensor(torch.tensor(2)).item() == 2
    assert all(a is b.grad for a, b in zip(before, params, strict=True))


def test_world_from_torchrun() -> None:
    assert World.from_env({}) == World() and World.from_env({}).is_main
    world = World.from_env({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"})
    assert world == World(rank=3, size=4, local_rank=1) and not world.is_main
    assert World.from_env({"LOCAL_WORLD_SIZE": "2"}).local_size == 2


@pytest.mark.parametrize("env", [{"RANK": "x"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "0"}])
def test_impossible_world(env: dict[str, str]) -> None:
    with pytest.raises(UserError, match="torchrun"):
        World.from_env(env)
