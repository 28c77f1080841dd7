from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    database_url: str = ""
    jwt_secret: str = ""
    service_key: str = ""
    callee_url: str = ""
    rate_limit: str = "100/second"
    rate_limit_enabled: bool = True


settings = Settings()
