"""Who is calling: the profile of a stdio process, a bearer token that was handed out and is kept hashed, or an
access token of an authorization server."""

from usrland.identity.oauth import OAuth, Verifier
from usrland.identity.profile import Profile, local_principal
from usrland.identity.tokens import Token, TokenFile

__all__ = ["OAuth", "Profile", "Token", "TokenFile", "Verifier", "local_principal"]
