"""What every connector must do, inherited: schemas, risk, strictness, consent, budgets, start, end."""

from example_connector.server import service
from usrland.testing import ServerContract


class TestContract(ServerContract):
    service = staticmethod(service)
