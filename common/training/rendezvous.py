"""Waiting until all workers of a cluster have arrived, before TensorFlow does.

TensorFlow waits in C++ code that holds Python's lock: without end, without a word on whom it waits
for, and deaf to signals. So workers meet here first. Each calls the chief, at the address where
TensorFlow will listen later, and says its own address; when all have called, the chief answers.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress

from common.errors import UserError, first_line

# What the chief answers.
_GO = "all workers are here\n"
# Seconds between two attempts to reach the chief, and for a caller to say who it is.
_RETRY = 0.2
_PATIENCE = 2.0
# What sockets raise for addresses: also for names and ports that cannot be any.
_UNREACHABLE = (OSError, OverflowError, UnicodeError)
_ADVICE = "see whether it runs and can be reached from here, or give a longer --worker-timeout"


def wait_for_all(addresses: list[str], own: str, timeout: float) -> None:
    """Returns when all workers are here.

    Args:
        addresses: "host:port" of all workers, the chief's first.
        own: The one of this worker.
        timeout: Seconds to wait.

    Raises:
        UserError: Somebody has not arrived in time, or this worker cannot listen at its address.
    """
    try:
        socket.getaddrinfo(*_split(own))
    except _UNREACHABLE as error:
        raise UserError(f"cannot be the worker {own}: {first_line(error)}") from error
    chief, *others = addresses
    deadline = time.monotonic() + timeout
    try:
        if own == chief:
            _let_in(chief, others, deadline)
        else:
            _report(own, chief, deadline)
    except _NotArrivedError as error:
        raise UserError(f"{error} has not arrived within {timeout:g} s: {_ADVICE}") from None


class _NotArrivedError(Exception):
    """Who it is."""


def _let_in(chief: str, others: list[str], deadline: float) -> None:
    """The chief's part."""
    arrived: dict[str, socket.socket] = {}
    with ExitStack() as stack:
        try:
            server = stack.enter_context(_listening(_split(chief)[1]))
        except OSError as error:
            raise UserError(f"cannot be the worker {chief}: {first_line(error)}") from error
        while missing := [address for address in others if address not in arrived]:
            server.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                caller = stack.enter_context(server.accept()[0])
            except TimeoutError:
                raise _NotArrivedError(", ".join(map(_described, missing))) from None
            caller.settimeout(_PATIENCE)
            with suppress(OSError, UnicodeDecodeError):  # somebody else has called
                arrived[caller.makefile().readline(300).strip()] = caller
        for address in others:
            with suppress(OSError):
                arrived[address].sendall(_GO.encode())


def _report(own: str, chief: str, deadline: float) -> None:
    """The part of every other worker."""
    while (left := deadline - time.monotonic()) > 0:
        with (
            suppress(*_UNREACHABLE, UnicodeDecodeError),
            socket.create_connection(_split(chief), left) as connection,
        ):
            connection.sendall(f"{own}\n".encode())
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            if connection.makefile().readline(300) == _GO:
                return
        time.sleep(min(_RETRY, left))
    raise _NotArrivedError(f"{_described(chief)}, or another worker,")


def _listening(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _described(address: str) -> str:
    """An address, and whether it is one at all."""
    try:
        socket.getaddrinfo(*_split(address))
        return f"worker {address}"
    except _UNREACHABLE as error:
        return f"worker {address} ({first_line(error)})"


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
