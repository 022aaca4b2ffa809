"""The bucket where there is no nginx, by sendfile: `python -m stream_figures.static_server ROOT PORT BUCKET`."""

import sys
from pathlib import Path

from aiohttp import web

from stream_figures.bucket import object_metadata


def main() -> None:
    root, port, bucket = Path(sys.argv[1]).resolve(), int(sys.argv[2]), sys.argv[3]

    def found(request: web.Request) -> Path:
        path = (root / request.match_info["key"]).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            raise web.HTTPNotFound
        return path

    async def media(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(found(request))

    async def known(request: web.Request) -> web.StreamResponse:
        path = found(request)
        if request.query.get("alt") == "media":
            return web.FileResponse(path)
        return web.json_response(object_metadata(request.match_info["key"], path.stat().st_size))

    app = web.Application()
    app.router.add_get(f"/{bucket}/{{key:.+}}", media)
    app.router.add_get(f"/download/storage/v1/b/{bucket}/o/{{key:.+}}", media)
    app.router.add_get(f"/storage/v1/b/{bucket}/o/{{key:.+}}", known)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main()
