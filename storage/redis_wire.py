"""Commands to one Redis that are packed here and sent in one write, over connections of redis-py's own pool.

redis-py spends more on packing a script's thirty words, on a pipeline of two commands and on lending a
connection than the server on running them. What does not change from call to call is packed once, and bytes
that follow one another are one command.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from typing import Any

import redis


def words(several: Iterable[str | int]) -> str:
    """As the protocol has them (RESP bulk strings), without the count before them. ASCII only, which has a
    byte a character."""
    return "".join([f"${len(each)}\r\n{each}\r\n" for each in map(str, several)])


class Wire:
    """To the server of a client that is no cluster's. Safe for threads and processes."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        #: connections that nobody uses just now
        self._free, self._process = deque[Any](), os.getpid()

    def asked(self, *commands: tuple[int, str]) -> list[Any]:
        """The answers, raw, to commands of so many words each; they are such as may be repeated. Raises what
        redis-py raises; of answers that are errors, the first."""
        packed = "".join([f"*{many}\r\n{text}" for many, text in commands]).encode("ascii")
        if self._process != os.getpid():  # a fork shares no connection
            self._free, self._process = deque(), os.getpid()
        try:
            connection = self._free.pop()
        except IndexError:
            return self._exchanged(self._pool.get_connection(), packed, len(commands))
        try:
            return self._exchanged(connection, packed, len(commands))
        except redis.ConnectionError:  # the server closed it meanwhile; it may be up again
            return self._exchanged(self._pool.get_connection(), packed, len(commands))

    def close(self) -> None:
        while self._free:
            self._pool.release(self._free.pop())

    def _exchanged(self, connection: Any, packed: bytes, many: int) -> list[Any]:
        answers = list[Any]()
        try:
            connection.send_packed_command((packed,))
            for _ in range(many):
                try:
                    answers.append(connection.read_response())
                except redis.ResponseError as error:  # the connection goes on: the others' answers follow
                    answers.append(error)
        except BaseException:  # what is still to come must not be taken for the answer to another command
            connection.disconnect()
            self._pool.release(connection)
            raise
        self._free.append(connection)
        for each in answers:
            if isinstance(each, redis.ResponseError):
                raise each
        return answers
