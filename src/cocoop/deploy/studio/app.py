"""The page of the studio and its API as one application, behind the guard of `cocoop serve`."""

from collections.abc import Collection

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from cocoop.deploy.serve.form import add_refusals
from cocoop.deploy.serve.guard import Guard
from cocoop.deploy.studio.api import add_api
from cocoop.deploy.studio.studio import Studio
from cocoop.utils.assets import ASSETS

WEB = ASSETS / "studio"


def make_app(studio: Studio, hosts: Collection[str] | None) -> FastAPI:
    """Return the application.

    Args:
        studio: behind it.
        hosts: names it answers to, None for any; see `Guard`.
    """
    app = FastAPI(title="cocoop studio", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.limits = studio.options.limits
    add_refusals(app)
    add_api(app, studio)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(WEB / "index.html")

    app.mount("/static", StaticFiles(directory=WEB))
    app.add_middleware(Guard, limits=studio.options.limits, hosts=hosts)
    return app
