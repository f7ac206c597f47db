"""Servers and clients in one process, over TCP, UNIX and datagram sockets; prints sums of what has come."""
import asyncio
import hashlib
import os
import sys

ROUNDS = 500


async def serve(reader, writer):
    """Answers each line with a block of bytes that is derived from it."""
    while line := await reader.readline():
        size = int.from_bytes(hashlib.sha256(line).digest()[:2], "little")
        block = (line * (size // len(line) + 1))[:size]
        writer.write(size.to_bytes(4, "little") + block)
        await writer.drain()
    writer.close()


async def ask(name, opened, results):
    reader, writer = await opened
    total = hashlib.sha256()
    for number in range(ROUNDS):
        writer.write(b"%s %d\n" % (name, number))
        await writer.drain()
        size = int.from_bytes(await reader.readexactly(4), "little")
        total.update(await reader.readexactly(size))
    writer.close()
    results[name] = total.hexdigest()


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, sender):
        self.transport.sendto(data[::-1], sender)


class Pings(asyncio.DatagramProtocol):
    """Sends the next datagram when the last one has come back."""

    def __init__(self, done):
        self.done = done
        self.number = 0
        self.total = hashlib.sha256()

    def connection_made(self, transport):
        self.transport = transport
        transport.sendto(b"datagram 0")

    def datagram_received(self, data, _sender):
        self.total.update(data)
        self.number += 1
        if self.number == ROUNDS:
            self.done.set_result(self.total.hexdigest())
        else:
            self.transport.sendto(b"datagram %d" % self.number)


async def main():
    loop = asyncio.get_running_loop()
    path = "server.socket"
    tcp = await asyncio.start_server(serve, "127.0.0.1", 0)
    unix = await asyncio.start_unix_server(serve, path)
    port = tcp.sockets[0].getsockname()[1]
    results = {}
    done = loop.create_future()
    echo, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    address = echo.get_extra_info("sockname")
    pings, _ = await loop.create_datagram_endpoint(lambda: Pings(done), remote_addr=address)
    clients = [ask(b"tcp%d" % n, asyncio.open_connection("127.0.0.1", port), results) for n in range(4)]
    clients += [ask(b"unix%d" % n, asyncio.open_unix_connection(path), results) for n in range(4)]
    await asyncio.gather(*clients)
    results[b"udp"] = await done
    for name, value in sorted(results.items()):
        print(name.decode(), value)
    echo.close()
    pings.close()
    tcp.close()
    unix.close()
    os.unlink(path)


asyncio.run(main())
sys.stdout.flush()
