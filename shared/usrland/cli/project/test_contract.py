"""What every connector must do, inherited: schemas, risk, strictness, consent, budgets, start, end."""

from usrland.testing import ServerContract

from example_connector.server import service


class TestContract(ServerContract):
    service = staticmethod(service)
