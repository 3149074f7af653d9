"""The client of aiohttp: `aiohttp_client.py PORT CASE`."""

import asyncio
import os
import sys

import aiohttp


async def parallel(session):
    """Each of many requests at once gets its own answer."""

    async def get(number):
        async with session.get(f"/number/{number}") as answer:
            assert answer.status == 200, answer
            assert await answer.text() == str(number)

    await asyncio.gather(*(get(number) for number in range(300)))


async def web_socket(session):
    """Texts, large binaries, a ping, and a close with code and reason of the service's."""
    async with session.ws_connect("/echo", protocols=["echo"], max_msg_size=0) as socket:
        assert socket.protocol == "echo", socket.protocol
        for text in ["", "salve", "\N{GREEK SMALL LETTER OMEGA}" * 1000]:
            await socket.send_str(text)
            assert await socket.receive_str() == text
        for size in [1, 125, 126, 65535, 65536, 3_000_000]:
            data = os.urandom(size)
            await socket.send_bytes(data)
            assert await socket.receive_bytes() == data, size
        await socket.ping(b"there?")
        await socket.send_str("leave")
        last = await socket.receive()
        assert (last.type, last.data, last.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "enough"), last


CASES = {"parallel": parallel, "web_socket": web_socket}


async def main():
    limits = {"connector": aiohttp.TCPConnector(limit=30), "timeout": aiohttp.ClientTimeout(total=20)}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{sys.argv[1]}", **limits) as session:
        await CASES[sys.argv[2]](session)


asyncio.run(main())
