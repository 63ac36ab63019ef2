"""What every connector must do, inherited: schemas, risk, strictness, consent, budgets, start, end."""

from typing import ClassVar

from example_connector.server import service
from usrland.testing import ServerContract


class TestContract(ServerContract):
    service = staticmethod(service)
    private = True
    samples: ClassVar = {"task_add": {"title": "Write the offer"}, "task_find": {"text": "offer"}}
