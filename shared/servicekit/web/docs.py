"""The page at `/docs`, on which a service's API can be read and tried.

Its files come from the service itself, so that it works without a network and below a policy that forbids others'.
"""

from typing import Final

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse

from opskit.swagger_ui import swagger_ui_folder
from servicekit.core.errors import NotFound

_PATH: Final = "/docs/swagger-ui"
_FILES: Final = frozenset({"swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"})


def docs_router(title: str) -> APIRouter:
    """Return `/docs`, and the files of Swagger UI below it."""
    router = APIRouter(include_in_schema=False)
    folder = swagger_ui_folder()
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=title,
        swagger_js_url=f"{_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{_PATH}/favicon-32x32.png",
    )

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return page

    @router.get(f"{_PATH}/{{name}}")
    async def swagger_ui_file(name: str) -> FileResponse:
        if name not in _FILES:
            raise NotFound
        return FileResponse(folder / name)

    return router
