"""TLS on the simulator's port, with files and without."""

from __future__ import annotations

import os
import ssl

import aiohttp
import pytest
from support.sims import simulator_here

from vllm_sim.options import TransportOptions
from vllm_sim.server.tls import Certificate, CertificateError, self_signed_pair


def write_pair(folder):
    key, certificate = self_signed_pair()
    paths = folder / "cert.pem", folder / "key.pem"
    for path, data in zip(paths, (certificate, key), strict=True):
        path.write_bytes(data)
    return paths, certificate.decode()


async def health(sim, context):
    url = f"https://localhost:{sim.port}/health"
    async with sim.session.get(url, ssl=context) as answer:
        return answer.status


async def test_a_certificate_from_files_is_served(tmp_path):
    (certificate, key), text = write_pair(tmp_path)
    transport = TransportOptions(str(certificate), str(key))
    async with simulator_here(transport=transport) as sim:
        assert await health(sim, ssl.create_default_context(cadata=text)) == 200


async def test_a_certificate_of_its_own_is_vouched_for_by_nobody():
    async with simulator_here(transport=TransportOptions(self_signed=True)) as sim:
        assert await health(sim, False) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await health(sim, ssl.create_default_context())


async def test_a_changed_certificate_is_taken_and_half_a_pair_is_not(tmp_path):
    (certificate, key), _ = write_pair(tmp_path)
    pair = Certificate(str(certificate), str(key))
    assert not pair.look()
    key.write_bytes(self_signed_pair()[0])
    os.utime(key, ns=(1, 1))
    assert not pair.look()
    write_pair(tmp_path)
    assert pair.look()


async def test_files_that_are_no_pair_are_named(tmp_path):
    (certificate, _), _ = write_pair(tmp_path)
    with pytest.raises(CertificateError, match=r"--ssl-keyfile .*none"):
        Certificate(str(certificate), str(tmp_path / "none"))
