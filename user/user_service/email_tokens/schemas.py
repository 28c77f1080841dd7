"""The token of a mail in the body of a request."""

from typing import Annotated

from pydantic import Field

EmailTokenText = Annotated[str, Field(min_length=1, max_length=128, repr=False)]
