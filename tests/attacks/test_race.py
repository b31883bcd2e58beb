"""One code, sent in many requests at once to the server's two processes, serves one action."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.person import Person, code, fields

pytestmark = pytest.mark.gateway


@pytest.mark.parametrize(("action", "factor"), [("view", "recovery code"), ("delete", "authenticator")])
def test_one_code_in_sixteen_requests_at_once_serves_one(owner: Person, action: str, factor: str) -> None:
    secrets = [owner.create()[1] for _ in range(2 - len(owner.key_ids()))]
    first, second = owner.key_ids()
    token = owner.recovery_codes.pop() if factor == "recovery code" else code(owner.totp_secret, ahead=1)
    form = fields(owner.http.get(f"/api-keys/{first}/{action}/").text) | {"otp_token": token}
    owner.http.follow_redirects = False

    def send(n: int) -> tuple[int, str]:
        """Half of them for the one key, half for the other."""
        answer = owner.http.post(f"/api-keys/{first if n % 2 else second}/{action}/", data=form)
        return answer.status_code, answer.text

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(send, range(16)))
    owner.http.follow_redirects = True
    statuses = [status for status, _ in answers]
    assert statuses.count(200 if action == "view" else 302) == 1
    assert set(statuses) <= {200, 302, 404, 422, 429}
    assert sum(page.count(secret) for _, page in answers for secret in secrets) == (action == "view")
    assert len(owner.key_ids()) == (2 if action == "view" else 1)
