"""A small ssh server on the loopback address for one test: python ssh_server.py HOST_KEY AUTHORIZED_KEYS.

Needs asyncssh; prints its port, then serves until it is ended. Commands run in this user's shell.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import asyncssh  # type: ignore[import-not-found, unused-ignore]


async def run(process: Any) -> None:
    """Run one command of a client."""
    child = await asyncio.create_subprocess_shell(
        process.command or "exit 1",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    # Bytes, as archives come this way.
    out, err = await child.communicate(await process.stdin.read())
    process.stdout.write(out)
    process.stderr.write(err)
    process.exit(child.returncode or 0)


async def main(host_key: str, authorized_keys: str) -> None:
    """Serve commands."""
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
        process_factory=run,
        encoding=None,
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
