import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, HTTPException, Query
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from .database import engine, get_db
from .middleware import install_middleware
from .models import Note, User
from .schemas import NoteCreate, NoteOut
from .security import get_current_user


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(title="Notes", lifespan=lifespan)
install_middleware(app)


@app.post("/api/v1/notes", status_code=201, response_model=NoteOut)
async def create_note(
    data: NoteCreate, user: User = Depends(get_current_user), db: AsyncSession = Depends(get_db)
) -> Note:
    note = Note(owner_id=user.id, **data.model_dump())
    db.add(note)
    await db.commit()
    await db.refresh(note)
    return note


@app.get("/api/v1/notes", response_model=list[NoteOut])
async def list_notes(
    skip: int = 0,
    limit: int = Query(20, le=100),
    user: User = Depends(get_current_user),
    db: AsyncSession = Depends(get_db),
) -> list[Note]:
    query = select(Note).where(Note.owner_id == user.id).order_by(Note.created_at.desc()).offset(skip).limit(limit)
    return list((await db.execute(query)).scalars())


@app.get("/api/v1/notes/{note_id}", response_model=NoteOut)
async def get_note(
    note_id: uuid.UUID, user: User = Depends(get_current_user), db: AsyncSession = Depends(get_db)
) -> Note:
    note = await db.get(Note, note_id)
    if note is None or note.owner_id != user.id:
        raise HTTPException(status_code=404, detail="Note not found")
    return note
