"""Who is calling: the profile of a stdio process, or a bearer token that was handed out and is kept hashed."""

from usrland.identity.profile import Profile, local_principal
from usrland.identity.tokens import Token, TokenFile

__all__ = ["Profile", "Token", "TokenFile", "local_principal"]
