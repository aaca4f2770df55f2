"""A vLLM server for sampled answers: the errors before training without one. No vLLM runs here."""

import re
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from packaging.requirements import Requirement

from mcr_lib.errors import UserError
from mcr_lib.training import cvo
from mcr_lib.training.options import CvoOptions
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.canary


def test_the_lock_with_vllm_keeps_to_the_ranges_of_this_package():
    lines = (REPOSITORY / "requirements-vllm.lock").read_text().splitlines()
    assert not [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line)], (
        "names and versions, no place"
    )
    pins = dict(line.split("==") for line in lines)
    assert (pins["trl"], pins["vllm"]) == ("1.16.0", "0.31.0")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for given in [
        *project["dependencies"],
        *project["optional-dependencies"]["train"],
        *project["optional-dependencies"]["notebooks"],
    ]:
        wanted = Requirement(given)
        assert wanted.specifier.contains(pins[wanted.name]), given


def test_without_vllm_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(cvo, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match="^use_vllm needs vllm, which is not installed; pip install -r requirements-vllm.lock"
    ):
        cvo.check_server("somewhere", CvoOptions(use_vllm=True))
    cvo.check_server("somewhere", CvoOptions())


class Health(BaseHTTPRequestHandler):
    """Answers as a server that is up, and one that is broken below /broken."""

    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 500)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_a_server_that_does_not_answer_is_told_with_the_command_that_starts_one(monkeypatch):
    monkeypatch.setattr(cvo, "find_spec", lambda name: True)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # a proxy has nothing to say here
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.server_port
    cvo.check_server("model", CvoOptions(use_vllm=True, vllm_server_port=port))
    broken = CvoOptions(use_vllm=True, vllm_server_base_url=f"http://127.0.0.1:{port}/broken/")
    with pytest.raises(
        UserError, match=f"^no vLLM server answers at http://127.0.0.1:{port}/broken .HTTP Error 500"
    ):
        cvo.check_server("model", broken)
    server.shutdown()
    thread.join()
    server.server_close()
    with pytest.raises(
        UserError,
        match=f"no vLLM server answers at http://127.0.0.1:{port} .*vllm serve model --port {port} ",
    ) as raised:
        cvo.check_server("model", CvoOptions(use_vllm=True, vllm_server_port=port))
    assert "\n" not in str(raised.value)


def test_the_server_resizes_images_as_the_training_does():
    command = cvo.server_command("model", CvoOptions(min_pixels=3136, max_pixels=50176))
    assert command.endswith(""" --mm-processor-kwargs '{"min_pixels": 3136, "max_pixels": 50176}'""")
    assert "--mm-processor-kwargs" not in cvo.server_command("model", CvoOptions()), (
        "a folder of ours has its own"
    )
