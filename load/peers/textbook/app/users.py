from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from .database import engine, get_db
from .middleware import install_middleware
from .models import User
from .schemas import LoginRequest, Token, UserCreate, UserOut
from .security import create_access_token, get_current_user, hash_password, verify_password


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(title="Users", lifespan=lifespan)
install_middleware(app)


@app.post("/api/v1/users/register", status_code=201, response_model=UserOut)
async def register(data: UserCreate, db: AsyncSession = Depends(get_db)) -> User:
    query = select(User).where(or_(User.username == data.username, User.email == data.email))
    if (await db.execute(query)).scalar_one_or_none() is not None:
        raise HTTPException(status_code=409, detail="Username or email already registered")
    user = User(username=data.username, email=data.email, hashed_password=hash_password(data.password))
    db.add(user)
    try:
        await db.commit()
    except IntegrityError as error:
        raise HTTPException(status_code=409, detail="Username or email already registered") from error
    await db.refresh(user)
    return user


@app.post("/api/v1/users/login", response_model=Token)
async def login(data: LoginRequest, db: AsyncSession = Depends(get_db)) -> Token:
    user = (await db.execute(select(User).where(User.username == data.username))).scalar_one_or_none()
    if user is None or not verify_password(data.password, user.hashed_password):
        raise HTTPException(status_code=401, detail="Incorrect username or password")
    return Token(access_token=create_access_token(user.id))


@app.get("/api/v1/users/profile", response_model=UserOut)
async def profile(user: User = Depends(get_current_user)) -> User:
    return user
