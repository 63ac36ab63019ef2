"""One letter handed to a mail server, step by step, so that it is known how far it came."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from enterprise_connectors.mail.outbox import Delivery, Parcel

__all__ = ["SmtpServer"]

SECONDS = 20.0
"""For each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpServer:
    """Where letters are handed over. Blocks."""

    host: str
    port: int
    implicit_tls: bool
    plain: bool
    username: str
    password: str = field(repr=False)

    def hand_over(self, parcel: Parcel, at_the_brink: Callable[[], None]) -> Delivery:
        """Try to send one letter. `at_the_brink` is called just before it can no longer be taken back."""
        brink = False
        try:
            with self._connected() as server:
                refused = _addressed(server, parcel)
                if len(refused) == len(parcel.recipients):
                    return _all_refused(refused)
                code, said = server.docmd("DATA")
                if code != 354:
                    return _answered(code, said)
                at_the_brink()
                brink = True
                server.send(_stuffed(parcel.content))
                code, said = server.getreply()
                return _accepted(refused) if code == 250 else _answered(code, said)
        except smtplib.SMTPAuthenticationError as error:
            return Delivery("waiting", f"the mail server refuses the credentials ({error.smtp_code}).")
        except smtplib.SMTPResponseException as error:
            return _answered(error.smtp_code, error.smtp_error)
        except (OSError, smtplib.SMTPException) as error:
            if brink:
                return Delivery("in doubt", "the connection was lost while the mail server was to confirm it.")
            return Delivery("waiting", f"the mail server cannot be reached ({type(error).__name__}).")

    def prove(self) -> None:
        """Connect and log in; raises what `smtplib` raises."""
        with self._connected():
            pass

    @contextlib.contextmanager
    def _connected(self):  # type: ignore[no-untyped-def]  # a generator of smtplib.SMTP
        context = ssl.create_default_context()
        if self.implicit_tls:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, self.port, timeout=SECONDS, context=context)
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=SECONDS)
        try:
            if not self.implicit_tls and not self.plain:
                server.starttls(context=context)
            server.ehlo_or_helo_if_needed()
            # a relay that knows nobody takes letters without; one that wants a name will say so
            if self.username and server.has_extn("auth"):
                server.login(self.username, self.password)
            yield server
        finally:
            # how a letter ended is known by now; a goodbye that fails changes nothing
            with contextlib.suppress(OSError, smtplib.SMTPException):
                server.quit()
            server.close()


def _addressed(server: smtplib.SMTP, parcel: Parcel) -> dict[str, tuple[int, bytes]]:
    """Say who sends to whom; the recipients that are refused."""
    code, said = server.mail(parcel.sender)
    if code != 250:
        raise smtplib.SMTPResponseException(code, said)
    answers = {recipient: server.rcpt(recipient) for recipient in parcel.recipients}
    return {recipient: answer for recipient, answer in answers.items() if answer[0] not in (250, 251)}


def _stuffed(content: bytes) -> bytes:
    body = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    body = body.replace(b"\r\n.", b"\r\n..")
    if body.startswith(b"."):
        body = b"." + body
    return body + (b"" if body.endswith(b"\r\n") else b"\r\n") + b".\r\n"


def _all_refused(refused: dict[str, tuple[int, bytes]]) -> Delivery:
    # where one is only refused for now, the whole letter waits
    code, said = min(refused.values(), key=lambda answer: answer[0])
    return _answered(code, said)


def _accepted(refused: dict[str, tuple[int, bytes]]) -> Delivery:
    later = tuple(recipient for recipient, (code, _) in refused.items() if code < 500)
    said = f"not to {', '.join(refused)}: the mail server refuses them." if refused else ""
    return Delivery("waiting", said, later) if later else Delivery("sent", said)


def _answered(code: int, said: bytes | str) -> Delivery:
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    line = f"the mail server answered {code}: {' '.join(text.split())[:200]}"
    return Delivery("refused" if code >= 500 else "waiting", line)
