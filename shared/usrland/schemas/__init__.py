"""Wire models and identities that servers share."""
