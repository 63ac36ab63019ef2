"""Who is calling: the profile of a stdio process, a bearer token that was handed out and is kept hashed, or an
access token of an authorization server; and what each of them may do, as `grants.toml` says."""

from usrland.identity.grants import BY_GRANT, GrantFile
from usrland.identity.oauth import OAuth, Verifier
from usrland.identity.profile import Profile, local_principal
from usrland.identity.start import StartToken
from usrland.identity.tokens import Token, TokenFile

__all__ = [
    "BY_GRANT",
    "GrantFile",
    "OAuth",
    "Profile",
    "StartToken",
    "Token",
    "TokenFile",
    "Verifier",
    "local_principal",
]
