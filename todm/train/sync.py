"""Synchronisation of training processes: weights are sent once, gradients are summed once per step.

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
from importlib import import_module

import torch
import torch.distributed as dist
from torch import Tensor, nn

from todm.errors import UserError

log = logging.getLogger(__name__)

BUCKET_NUMEL = 2**25  # elements in one all-reduce at most (128 MiB of float32)

SYNC_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others, for example while rank 0 validates."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One process among its peers.

    Args:
        rank: 0 to size - 1; rank 0 writes logs and checkpoints.
        size: number of processes.
        local_rank: index on this machine, which picks the GPU.
        local_size: number of processes on this machine, 0 if unknown.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 0

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> World:
        """Read torchrun's RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; one process without them.

        Raises:
            UserError: contradictory numbers.
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
    """Choose this process's device by the name ``cpu``, ``cuda`` or ``auto``; `UserError` if it is missing.

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
    """Join the other processes during the block (NCCL on GPUs, gloo on CPUs); no effect with one process."""
    if world.size == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(world.local_rank)
    elif "GLOO_SOCKET_IFNAME" not in os.environ and _spans_machines(world):
        name = find_interface(os.environ.get("MASTER_ADDR", ""))
        if name is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = name
    try:
        dist.init_process_group(backend, rank=world.rank, world_size=world.size, timeout=SYNC_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the {world.size} processes cannot reach each other ({_reason(error)}); start all of them, and "
            f"name the network interface between the machines in {backend.upper()}_SOCKET_IFNAME"
        ) from error
    try:
        yield
    except RuntimeError as error:
        if not _is_network_error(error):
            raise
        raise UserError(
            f"another of the {world.size} processes has ended or cannot be reached ({_reason(error)}); see "
            "its output; start all of them again to resume the last checkpoint"
        ) from error
    finally:
        dist.destroy_process_group()


def _is_network_error(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)  # gloo raises nothing more precise


def _reason(error: Exception) -> str:
    """First line of the message, without the place in torch's source."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"\[/[^\]]*\] ", "", first)[:200]


def _spans_machines(world: World) -> bool:
    """Whether torchrun started only some of the processes on this machine."""
    return 0 < world.local_size < world.size


def find_interface(host: str) -> str | None:
    """Find the network interface by which this machine reaches `host`; None if unknown.

    gloo uses the interface that the machine's own name resolves to, which often is 127.0.0.1.

    Args:
        host: name or IPv4 address, this machine's own included.
    """
    if sys.platform != "linux":
        return None
    fcntl = import_module("fcntl")  # Linux only
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # sends nothing
            address = probe.getsockname()[0]
            if address.startswith("127."):  # its own name in /etc/hosts: other machines cannot connect
                return None
            for _, name in socket.if_nameindex():
                with suppress(OSError):  # an interface without an address
                    wanted = struct.pack("256s", name.encode())
                    answer = fcntl.ioctl(probe.fileno(), 0x8915, wanted)  # SIOCGIFADDR
                    if socket.inet_ntoa(answer[20:24]) == address:
                        return name
    except (OSError, UnicodeError):  # the latter for impossible names
        pass
    return None


@torch.no_grad()
def reduce_gradients(params: Iterable[Tensor], *, bucket_numel: int = BUCKET_NUMEL) -> None:
    """Replace every ``grad`` by the sum over all processes, one all-reduce per bucket.

    The sum is the gradient of losses that are summed over the joined batch.

    A missing gradient counts as zeros; one that is missing in every process stays missing. One flag per
    parameter is sent in the same all-reduce, so that all processes agree.
    Parameters may have different dtypes and devices, but the same order in every process.

    Args:
        params: all parameters that are trained.
        bucket_numel: elements that are sent together at most; a larger tensor is sent alone.
    """
    if not _is_distributed():
        return
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
    if not _is_distributed():
        return
    for tensor in [*module.parameters(), *module.buffers()]:
        # NCCL and gloo want contiguous memory; a copy is sent and written back.
        sent = tensor.contiguous()
        dist.broadcast(sent, source)
        if sent is not tensor:
            tensor.copy_(sent)


def sum_over_processes(values: Mapping[str, float]) -> dict[str, float]:
    """Sum named numbers over all processes; a missing name counts as 0.

    Returns the same dict, in the same order, in every process. Use it once per interval, not per step.
    """
    if not _is_distributed():
        return dict(values)
    gathered: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, dict(values))
    totals: dict[str, float] = {}
    for part in gathered:
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def find_differences(values: Mapping[str, float]) -> dict[str, list[float]]:
    """Find the named numbers that differ between processes, each with the values by rank."""
    if not _is_distributed():
        return {}
    gathered: list[dict[str, float]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, dict(values))
    return {
        name: [part[name] for part in gathered]
        for name, value in values.items()
        if any(part[name] != value for part in gathered)
    }


def sum_tensor(tensor: Tensor) -> Tensor:
    """Sum a small tensor (a frame count, for example) over all processes; returns a new tensor."""
    total = tensor.detach().clone()
    if _is_distributed():
        dist.all_reduce(total)
    return total


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
