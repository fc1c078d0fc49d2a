"""A server of Milvus's protocol for the tests: Milvus Lite, over the network."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import milvus_pb2_grpc


class Listener(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Notes the header `authorization` of each call, and refuses a wrong one."""

    def __init__(self, credentials: str | None, *, is_open: bool) -> None:
        """Nothing was heard yet; see `Server`."""
        self.seen: set[str] = set()
        self._wanted = None if credentials is None else b64encode(credentials.encode()).decode()
        self._is_open = is_open

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Note the header, and continue if it is right."""
        heard = [str(value) for key, value in handler_call_details.invocation_metadata if key == "authorization"]
        self.seen.update(heard)
        if self._wanted is None or self._wanted in heard or (self._is_open and self._connects(handler_call_details)):
            return continuation(handler_call_details)
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure")
        )

    @staticmethod
    def _connects(details: Any) -> bool:
        return str(details.method).endswith("/Connect")


class Server:
    """A server of Milvus's protocol, by Milvus Lite, which can be stopped and started again at the same address.

    Attributes:
        uri: its address.
        listener: what was heard.
    """

    def __init__(self, folder: Path, *, credentials: str | None = None, is_open: bool = False) -> None:
        """Start.

        Args:
            folder: of its files.
            credentials: those that each call needs, such as user:password; None for none.
            is_open: whether connecting needs none.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri, self._folder = f"http://127.0.0.1:{self._port}", folder
        self.listener = Listener(credentials, is_open=is_open)
        self.start()

    def start(self) -> None:
        """Serve what is in the folder."""
        self._database = MilvusLite(str(self._folder))
        self._server = grpc.server(ThreadPoolExecutor(2), interceptors=[self.listener])
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(self._database), self._server)
        self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()

    def collections(self) -> list[str]:
        """The names of its collections."""
        return list(self._database.list_collections())

    def stop(self) -> None:
        """Write what is left."""
        self._server.stop(grace=None).wait()
        self._database.close()
