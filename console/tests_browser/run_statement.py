"""`python -m run_statement STATEMENT`: run it in the database of the service whose environment this is."""

import asyncio
import os
import sys
from pathlib import Path

import asyncpg


def _url() -> str:
    return Path(os.environ["DATABASE_URL_FILE"]).read_text().strip().replace("+asyncpg", "")


async def main() -> None:
    connection = await asyncpg.connect(_url())
    try:
        await connection.execute(sys.argv[1])
    finally:
        await connection.close()


asyncio.run(main())
