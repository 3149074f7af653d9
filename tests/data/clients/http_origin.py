"""A service by aiohttp. Prints its port; ends with its standard input."""

import asyncio
import hashlib
import sys

from aiohttp import WSMsgType, web

LARGEST = 64 * 1024 * 1024


async def digest(request):
    """What came as body and how it was announced."""
    body = await request.read()
    return web.json_response(
        {
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "announced": request.headers.get("Content-Length"),
        }
    )


async def number(request):
    await asyncio.sleep(0)
    return web.Response(text=request.match_info["number"])


async def echo(request):
    socket = web.WebSocketResponse(protocols=["echo"], max_msg_size=LARGEST)
    await socket.prepare(request)
    async for message in socket:
        if message.data == "leave":
            await socket.close(code=4001, message=b"enough")
        elif message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def main():
    app = web.Application(client_max_size=LARGEST)
    app.add_routes(
        [
            web.route("*", "/digest", digest),
            web.get("/number/{number}", number),
            web.get("/echo", echo),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
