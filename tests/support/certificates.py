"""Certificates, and the authority that signs them."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
PEM = serialization.Encoding.PEM


class Authority:
    """With its certificate in ca.crt of that folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.key = folder, new_key()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority")])
        self.file = folder / "ca.crt"
        self.file.write_bytes(self.signed(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None), SIGNS))

    def issue(self, file: str, name: str) -> Path:
        """`file`.crt and `file`.key beside it, for that address or host name; the first."""
        try:
            alternative: x509.GeneralName = x509.IPAddress(ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        key = new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self.signed(subject, key, x509.SubjectAlternativeName([alternative]))
        secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.folder / f"{file}.key").write_bytes(secret)
        (self.folder / f"{file}.crt").write_bytes(certificate)
        return self.folder / f"{file}.crt"

    def signed(self, subject: x509.Name, key: rsa.RSAPrivateKey, *extensions: x509.ExtensionType) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        identifiers = (
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
        )
        for extension in (*extensions, *identifiers):  # strict verification asks for all of them
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)
