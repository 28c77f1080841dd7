import asyncio

from .database import Base, engine
from .models import Note, User

__all__ = ["Note", "User"]


async def main() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
