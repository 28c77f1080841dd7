"""What FastAPI cannot find out about the upload, whose body it never sees: its two forms in the OpenAPI document."""

from typing import Any, Final

from assets_service.uploads.media_types import ACCEPTED_TYPES

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}

REQUEST_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": (
            "A form with the field `file`, or the bytes themselves with their Content-Type and the header X-Filename. "
            "`application/octet-stream` means: look what it is."
        ),
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "additionalProperties": False,
                }
            },
            "application/octet-stream": _BINARY,
            **dict.fromkeys(sorted(ACCEPTED_TYPES), _BINARY),
        },
    },
    "parameters": [
        {
            "name": "X-Filename",
            "in": "header",
            "required": False,
            "description": "The name of a file that is sent as it is: percent-encoded UTF-8, 1 to 255 characters.",
            # No lengths: they would count the escapes, and bind the name beside a form, which has its own.
            "schema": {"type": "string", "examples": ["caf%C3%A9.txt"]},
        }
    ],
}
