"""Addresses are compared by IDNA 2008: ß and final ς are letters of their own in a domain.

A trigger gives the key its new form, because the version before may still run and write the old one. Drop it in a later
revision.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # The part before the @ stays as it was written; the domain of a stored address is normalised.
    op.execute(
        """
        CREATE FUNCTION users_email_key() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NEW.email_key := substring(NEW.email_key FROM '^(.*)@')
                || '@' || lower(substring(NEW.email FROM '@([^@]*)$'));
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER users_email_key BEFORE INSERT OR UPDATE OF email, email_key ON users"
        " FOR EACH ROW EXECUTE FUNCTION users_email_key()"
    )
    # The trigger sets the keys. Those in ASCII have the new form already.
    op.execute("UPDATE users SET email_key = email_key WHERE email ~ '[^[:ascii:]]'")


def downgrade() -> None:
    op.execute("DROP TRIGGER users_email_key ON users")
    op.execute("DROP FUNCTION users_email_key")
