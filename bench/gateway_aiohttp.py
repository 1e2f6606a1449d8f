"""A plain relay on aiohttp, server and client, on uvloop: the peer for what a relayed chunk costs.

python bench/gateway_aiohttp.py PORT UPSTREAM_PORT        (in an environment with aiohttp and uvloop)
"""

import sys

import aiohttp
import uvloop
from aiohttp import web


def make_app(upstream: str) -> web.Application:
    app = web.Application(client_max_size=1 << 25)

    async def session(_: web.Application):  # type: ignore[no-untyped-def]
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as app["client"]:
            yield

    async def relay(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {"content-type": "application/json"}
        url = upstream + request.path
        async with request.app["client"].request(request.method, url, data=body, headers=headers) as answer:
            if "content-length" in answer.headers:
                whole = await answer.read()
                return web.Response(status=answer.status, body=whole, content_type=answer.content_type)
            response = web.StreamResponse(
                status=answer.status, headers={"content-type": answer.headers["content-type"]}
            )
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", relay)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(
        make_app(f"http://127.0.0.1:{sys.argv[2]}"), host="127.0.0.1", port=int(sys.argv[1]),
        access_log=None, print=None, keepalive_timeout=75,
    )  # fmt: skip
