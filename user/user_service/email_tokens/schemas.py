"""The token of a mail in the body of a request."""

from typing import Annotated, Final

from pydantic import Field

EXAMPLE_TOKEN: Final = "the token of the mail"  # nosec B105
EmailTokenText = Annotated[str, Field(min_length=1, max_length=128, repr=False)]
