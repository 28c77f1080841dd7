"""Where Swagger UI's files are, which the services' and the gateway's `/docs` load."""

from importlib.util import find_spec
from pathlib import Path


def swagger_ui_folder() -> Path:
    """Return the folder of the installed package's files. Raises `ModuleNotFoundError` without the package."""
    # Found and not imported: the package's code would load FastAPI, and only its files are used.
    package = find_spec("fastapi_swagger")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("fastapi-swagger, which brings the files of /docs, is not installed")
    return Path(package.origin).parent / "resources"
