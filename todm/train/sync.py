"""Several training processes as one: weights sent once, gradients summed once per step.

Each process runs its own batch through all specs of the step and adds up its gradients; then one
all-reduce makes them the gradients of the joined batch. DistributedDataParallel is not used: it expects
every parameter in every backward pass, and a sandwich step skips layers.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from todm.errors import UserError

log = logging.getLogger(__name__)

BUCKET_NUMEL = 2**25  # elements in one all-reduce at most (128 MiB of float32)

PATIENCE = timedelta(minutes=30)
"""A process waits so long for the others: while rank 0 validates, or for a machine that has vanished."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One process among its peers.

    Args:
        rank: 0 to size - 1; rank 0 writes logs and checkpoints.
        size: number of processes.
        local_rank: index on this machine, which picks the GPU.
        local_size: number of processes on this machine, 0 if nobody told.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 0

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> World:
        """What torchrun tells through RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; one process without.

        Raises:
            UserError: numbers that contradict each other.
        """
        env = os.environ if environ is None else environ
        try:
            rank, size, local, here = (int(env.get(key, default)) for key, default in _VARIABLES)
        except ValueError as error:
            raise UserError(
                f"{', '.join(key for key, _ in _VARIABLES)}: not numbers ({error}); start with torchrun"
            ) from error
        if not 0 <= rank < size or local < 0:
            raise UserError(
                f"RANK {rank}, WORLD_SIZE {size}, LOCAL_RANK {local}: impossible; start with torchrun"
            )
        return cls(rank=rank, size=size, local_rank=local, local_size=here)

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0


def choose_device(name: str, world: World) -> torch.device:
    """``cpu``, ``cuda`` or ``auto`` to this process's device; `UserError` when it is not there.

    ``auto`` takes a GPU only if there is one for each process of this machine: several processes are also how
    the cores of a CPU are used, and all must choose the same.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise UserError(f"train.device: {name!r} is not one of cpu, cuda, auto")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("train.device: cuda was asked for, but torch finds no GPU; use cpu or auto")
    count = torch.cuda.device_count()
    if name == "auto" and world.local_size > count:
        if world.is_main:
            log.warning(
                "%d processes here and %d GPUs: training on the CPU; train.num_processes 1 takes a GPU",
                world.local_size,
                count,
            )
        return torch.device("cpu")
    if world.local_rank >= count:
        raise UserError(
            f"{world.local_rank + 1} processes were started on this machine, and torch finds {count} GPUs; "
            "start one process for each GPU, or set train.device to cpu"
        )
    return torch.device("cuda", world.local_rank)


_VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "0"))


@contextmanager
def process_group(world: World, *, device: torch.device) -> Iterator[None]:
    """Join the other processes for the time of the block (NCCL on GPUs, gloo on CPUs); alone: nothing."""
    if world.size == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(world.local_rank)
    elif "GLOO_SOCKET_IFNAME" not in os.environ and _spans_machines(world):
        name = interface_towards(os.environ.get("MASTER_ADDR", ""))
        if name is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = name
    try:
        dist.init_process_group(backend, rank=world.rank, world_size=world.size, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the {world.size} processes cannot reach each other ({_reason(error)}); start all of them, and "
            f"name the network interface between the machines in {backend.upper()}_SOCKET_IFNAME"
        ) from error
    try:
        yield
    except RuntimeError as error:
        if not _is_of_the_network(error):
            raise
        raise UserError(
            f"another of the {world.size} processes has ended or cannot be reached ({_reason(error)}); what "
            "it printed says why; start all of them again, and they go on from the last checkpoint"
        ) from error
    finally:
        dist.destroy_process_group()


def _is_of_the_network(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)  # gloo raises nothing more precise


def _reason(error: Exception) -> str:
    """The first line, without the place in torch's source where it arose."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"\[/[^\]]*\] ", "", first)[:200]


def _spans_machines(world: World) -> bool:
    """Whether torchrun started fewer processes here than there are; our own launcher stays on one machine."""
    return 0 < world.local_size < world.size


def interface_towards(host: str) -> str | None:
    """The network interface by which this machine reaches `host`; None if that cannot be told.

    gloo takes the interface that the machine's own name leads to, and on many that is 127.0.0.1.

    Args:
        host: name or IPv4 address, this machine's own included.
    """
    if sys.platform != "linux":
        return None
    import fcntl

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # sends nothing
            address = probe.getsockname()[0]
            if address.startswith("127."):  # its own name in /etc/hosts, where no other machine can go
                return None
            for _, name in socket.if_nameindex():
                with suppress(OSError):  # an interface without an address
                    wanted = struct.pack("256s", name.encode())
                    answer = fcntl.ioctl(probe.fileno(), 0x8915, wanted)  # SIOCGIFADDR
                    if socket.inet_ntoa(answer[20:24]) == address:
                        return name
    except (OSError, UnicodeError):  # the latter: of a name that cannot be one
        pass
    return None


@torch.no_grad()
def reduce_gradients(
    params: Iterable[Tensor], *, op: Literal["sum", "mean"] = "sum", bucket_numel: int = BUCKET_NUMEL
) -> None:
    """Replace every ``grad`` by the sum (or mean) over all processes, one all-reduce per bucket.

    A gradient that is missing here counts as zeros; one that is missing in every process stays missing.
    Which is which travels in the same all-reduce, one flag per parameter, so that all processes agree.
    Parameters may have different dtypes and devices, but the same order in every process.

    Args:
        params: all parameters that are trained.
        op: ``sum`` gives the gradient of losses that are summed over the joined batch.
        bucket_numel: elements that are sent together at most; one larger tensor goes alone.
    """
    if not _together():
        return
    world_size = dist.get_world_size()
    for bucket in _buckets(params, bucket_numel):
        flags = bucket[0].new_tensor([float(param.grad is not None) for param in bucket])
        parts = [
            param.grad.reshape(-1) if param.grad is not None else param.new_zeros(param.numel())
            for param in bucket
        ]
        flat = torch.cat([*parts, flags])
        dist.all_reduce(flat)
        *sums, flags = torch.split(flat, [*(param.numel() for param in bucket), len(bucket)])
        for param, total, present in zip(bucket, sums, flags.tolist(), strict=True):
            if present == 0:
                continue
            if param.grad is None:
                param.grad = torch.empty_like(param)
            param.grad.copy_(total.view_as(param))
            if op == "mean":
                param.grad.div_(world_size)


def _buckets(params: Iterable[Tensor], bucket_numel: int) -> Iterator[list[Tensor]]:
    """Group parameters by dtype and device, in order, up to `bucket_numel` elements each."""
    open_buckets: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for param in params:
        bucket = open_buckets.setdefault((param.dtype, param.device), [])
        if bucket and sum(other.numel() for other in bucket) + param.numel() > bucket_numel:
            yield bucket
            bucket = open_buckets[(param.dtype, param.device)] = []
        bucket.append(param)
    yield from open_buckets.values()


@torch.no_grad()
def broadcast_weights(module: nn.Module, *, source: int = 0) -> None:
    """Give every process the parameters and buffers of process `source`."""
    if not _together():
        return
    for tensor in [*module.parameters(), *module.buffers()]:
        # NCCL and gloo want contiguous memory; a copy is sent and written back.
        sent = tensor.contiguous()
        dist.broadcast(sent, source)
        if sent is not tensor:
            tensor.copy_(sent)


def sum_over_processes(values: Mapping[str, float]) -> dict[str, float]:
    """Sum named numbers over all processes; a name that is missing somewhere counts as 0 there.

    Returns the same dict, in the same order, in every process. Meant for once per interval.
    """
    if not _together():
        return dict(values)
    gathered: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, dict(values))
    totals: dict[str, float] = {}
    for part in gathered:
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def differing(values: Mapping[str, float]) -> dict[str, list[float]]:
    """Of named numbers those that are not the same in all processes, each with the value of every rank."""
    if not _together():
        return {}
    gathered: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, dict(values))
    return {
        name: [part[name] for part in gathered]
        for name, value in values.items()
        if any(part[name] != value for part in gathered)
    }


def sum_tensor(tensor: Tensor) -> Tensor:
    """Sum a small tensor (a frame count, say) over all processes; returns a new tensor."""
    total = tensor.detach().clone()
    if _together():
        dist.all_reduce(total)
    return total


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
