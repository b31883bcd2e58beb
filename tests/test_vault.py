"""Encryption at rest, keyed digests, and the form of a key."""

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, strategies

from apikeys.keys import format as keyformat
from console.vault import Digests, Vault, VaultError, check, new_key, parse_keys
from tests.support.world import whole

pytestmark = pytest.mark.once
ONE, TWO, DIGEST = new_key(), new_key().replace("1:", "2:"), new_key()


@given(strategies.binary(max_size=200), strategies.text(max_size=50))
def test_what_is_sealed_opens_in_its_place_alone(secret: bytes, place: str) -> None:
    vault = Vault(ONE, DIGEST)
    box = vault.seal(place, secret)
    assert vault.open(place, box) == secret
    with pytest.raises(VaultError):
        vault.open(place + "x", box)
    assert vault.seal(place, secret) != box


@given(strategies.integers(min_value=0))
def test_a_flipped_bit_does_not_open(where: int) -> None:
    vault = Vault(ONE, DIGEST)
    box = bytearray(vault.seal("here", b"secret"))
    box[where // 8 % len(box)] ^= 1 << where % 8
    with pytest.raises(VaultError, match=whole("The stored secret of here cannot be opened.")):
        vault.open("here", bytes(box))


def test_the_newest_key_seals_and_older_ones_still_open() -> None:
    old, both, new = Vault(ONE, DIGEST), Vault(f"{ONE},{TWO}", DIGEST), Vault(TWO, DIGEST)
    box, newer = old.seal("here", b"secret"), both.seal("here", b"secret")
    assert both.open("here", box) == new.open("here", newer) == b"secret"
    assert [both.newest(one) for one in (box, newer, b"")] == [False, True, False]
    with pytest.raises(VaultError):
        new.open("here", box)
    with pytest.raises(VaultError):
        old.open("here", b"")


def test_what_an_earlier_release_stored_is_known() -> None:
    zeros = "A" * 43 + "="
    vault = Vault(f"258:{zeros}", f"3:{zeros}")
    box = "0102dc8cf1989e85b9c1811256c007937686962afc14ece1d9728f64270100bb544fc2b9"
    assert vault.open("here", bytes.fromhex(box)) == b"secret" and vault.newest(bytes.fromhex(box))
    digest = "6defbc24ebfd0cdbdf2dcd69aa872b71370489195f0671c8a33e4e1f02fe8850"
    assert vault.digests("purpose", "secret") == [bytes.fromhex(digest)]
    fingerprint = bytes.fromhex("2c3767eca98640cc3a0b3c70eb02f1b46b2e465c5d5960db85d7bd254dba9173")
    assert vault.fingerprints == {("VAULT_KEYS", 258): fingerprint, ("DIGEST_KEYS", 3): fingerprint}


@pytest.mark.parametrize("name", ["VAULT_KEYS", "DIGEST_KEYS"])
def test_a_database_written_with_other_keys_is_told(name: str) -> None:
    mine = Vault(f"{ONE},{TWO}", DIGEST).fingerprints
    check({}, mine)
    check(mine, mine)
    check({("VAULT_KEYS", 2): mine["VAULT_KEYS", 2]}, mine)
    for (version, fingerprint), problem in {
        (1, b"another"): "differs from the one that this database was written with",
        (3, b"another"): "is missing",
    }.items():
        said = (
            f"Version {version} of {name} {problem}. Without it, stored API keys can be neither decrypted nor "
            "recognized. Restore the secrets.env, or the environment, that belongs to this database. "
            "docs/operations.md explains how to retire keys."
        )
        with pytest.raises(VaultError, match=whole(said)):
            check(mine | {(name, version): fingerprint}, mine)


def test_digests_differ_by_key_and_purpose_and_come_newest_first() -> None:
    first, second = new_key(), new_key().replace("1:", "2:")
    both = Digests(f"{first},{second}").digests("purpose", "secret")
    assert Digests(f"{first},{second}").versions == [2, 1]
    assert both == Vault(ONE, second).digests("purpose", "secret") + Vault(ONE, first).digests("purpose", "secret")
    assert len({*both, *Vault(ONE, first).digests("other", "secret")}) == 3
    assert {len(digest) for digest in both} == {32}


BARE = ONE.removeprefix("1:")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1:",
        "1:AA",
        "1:é",
        f"{ONE},",
        f"1:{ONE}",
        f"1:*{BARE}",
        f"x:{BARE}",
        f"0:{BARE}",
        f"65536:{BARE}",
        f"{ONE},{ONE}",
    ],
    ids=count(),
)
@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("VAULT_KEYS", lambda text: Vault(text, DIGEST)),
        ("DIGEST_KEYS", lambda text: Vault(ONE, text)),
        ("keys", lambda text: new_key(text or ",")),
    ],
)
def test_keys_that_are_none_say_what_to_set(name: str, use: Callable[[str], object], text: str) -> None:
    said = (
        f"{name} must be one or more `version:key` pairs separated by commas, "
        "each version once, each key 32 bytes in base64url."
    )
    with pytest.raises(ValueError, match=whole(said)):
        use(text)


@pytest.mark.parametrize(("before", "version"), [(ONE, 2), (f"{TWO},{ONE}", 3), (f"65534:{BARE}", 65535)], ids=count())
def test_a_new_key_comes_behind_the_others_as_the_newest(before: str, version: int) -> None:
    after = new_key(before)
    assert after.startswith(f"{before},{version}:")
    assert [*parse_keys("VAULT_KEYS", after).items()][1:] == [*parse_keys("VAULT_KEYS", before).items()]
    vault = Vault(after, DIGEST)
    assert vault.open("here", vault.seal("here", b"secret")) == b"secret"


def test_eight_digest_keys_are_taken_and_a_ninth_is_told() -> None:
    keys = new_key()
    for _ in range(7):
        keys = new_key(keys)
    assert len(Vault(ONE, keys).digests("purpose", "secret")) == 8
    with pytest.raises(ValueError, match=whole("DIGEST_KEYS has more than 8 keys: remove the newest.")):
        Vault(ONE, new_key(keys))


def test_a_key_has_its_form() -> None:
    keys = {keyformat.new_secret() for _ in range(1000)}
    assert len(keys) == 1000
    for key in keys:
        assert keyformat.well_formed(key)
        assert len(key) == 41 and key.startswith("sk-") and key[3:].isalnum()
        assert keyformat.hint(key) == f"{key[:7]}…{key[-4:]}"


@given(strategies.text(max_size=60))
def test_other_text_is_no_key(text: str) -> None:
    assert not keyformat.well_formed(text)


@given(strategies.integers(0, 40), strategies.characters())
def test_one_wrong_sign_is_noticed(where: int, sign: str) -> None:
    key = keyformat.new_secret()
    changed = key[:where] + sign + key[where + 1 :]
    assert keyformat.well_formed(changed) == (changed == key)
